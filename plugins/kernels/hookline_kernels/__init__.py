"""Op sets and logits processors for Hookline."""
