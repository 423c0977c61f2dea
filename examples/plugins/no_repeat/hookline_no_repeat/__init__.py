"""A logits processor for Hookline. What it offers is in plugin.py."""
