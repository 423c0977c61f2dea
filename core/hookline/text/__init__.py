"""Text and tokens: tokenizer, incremental detokenizing, stop matching. Used by frontend and scheduler."""
