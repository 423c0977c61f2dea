"""LoRA backends for Hookline."""
