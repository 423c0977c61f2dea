"""HTTP API families for Hookline."""
