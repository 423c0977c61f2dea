"""The tasks of the demo checkpoint, one module per family."""
