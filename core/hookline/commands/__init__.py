"""The sub-commands of ``hookline``, one module each, imported when they are called."""
