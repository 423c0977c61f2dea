"""Logits processors that requests name in ``logits_processors``."""
