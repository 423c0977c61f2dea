"""Qwen3-VL-MoE. The text half; the vision tower is not built yet."""
