"""Grammar backends for Hookline."""
