"""Configuration: one typed schema, its sources, and resolution of what was left to ``auto``."""
