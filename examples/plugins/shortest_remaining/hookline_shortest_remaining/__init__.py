"""A schedule policy for Hookline. What it offers is in plugin.py."""
