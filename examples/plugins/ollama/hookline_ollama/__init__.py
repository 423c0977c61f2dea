"""The Ollama API for Hookline. What it offers is in plugin.py."""
