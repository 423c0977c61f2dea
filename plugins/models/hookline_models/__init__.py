"""Models, poolers and checkpoint sources for Hookline."""
