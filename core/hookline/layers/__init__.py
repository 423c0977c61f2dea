"""Layers: what models, LoRA, quantization and kernels must agree on."""
