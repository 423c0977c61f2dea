"""Scheduler: which requests run next, and what became of them."""
