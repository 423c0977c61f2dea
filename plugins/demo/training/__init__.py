"""Generator, training and evaluation of the demo checkpoint. Not part of the wheel."""
