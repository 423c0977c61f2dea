"""Reasoning and tool-call parsers for Hookline."""
