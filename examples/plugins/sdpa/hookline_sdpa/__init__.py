"""An attention backend for Hookline. What it offers is in plugin.py."""
