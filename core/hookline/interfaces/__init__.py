"""What a plugin implements: abstract classes and value types whose docstrings state the obligations.

Importing this package or any module in it imports neither torch nor CUDA.
"""
