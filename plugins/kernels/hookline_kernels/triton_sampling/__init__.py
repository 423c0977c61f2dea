"""Rows of logits in Triton: the best token, log-probabilities, packed masks."""
