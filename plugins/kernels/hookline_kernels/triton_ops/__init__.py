"""Norms, activations, rotary embedding and routing in Triton. Importing this package compiles nothing."""
