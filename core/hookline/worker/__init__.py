"""Worker: one rank's device: weights, memory, passes, sampling."""
