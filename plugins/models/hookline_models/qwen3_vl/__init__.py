"""Qwen3-VL: the models, their vision tower, and the processing of pictures and video."""
