"""The demo checkpoint of Hookline: a small trained Qwen3-VL-MoE model, as package data."""
