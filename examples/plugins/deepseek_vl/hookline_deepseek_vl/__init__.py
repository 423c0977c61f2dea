"""DeepSeek-VL for Hookline."""
