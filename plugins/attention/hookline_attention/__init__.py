"""Attention backends for Hookline."""
