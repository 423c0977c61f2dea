"""OLMo 2 for Hookline."""
