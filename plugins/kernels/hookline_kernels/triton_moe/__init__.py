"""Mixture of experts in Triton: matrix-vector products for few tokens, grouped products for many."""
