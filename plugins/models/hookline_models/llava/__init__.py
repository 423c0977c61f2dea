"""LLaVA: a CLIP or SigLIP tower, a projector, and a Llama or Qwen2 decoder."""
