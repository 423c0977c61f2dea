"""Batch schedulers and schedule policies for Hookline."""
