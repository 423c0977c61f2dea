"""A function-call format for Hookline. What it offers is in plugin.py."""
