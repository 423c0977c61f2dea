"""Tiny random checkpoints with a tokenizer, made with transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
VOCAB_SIZE = 384
_CORPUS = [
    "The quick brown fox jumps over the lazy dog. 0123456789",
    'Ein Grüßgott, 漢字, naïve café, emoji 👩‍👩‍👧 and {"json": [1, 2, true]}',
    "To be, or not to be, that is the question: whether 'tis nobler in the mind",
]

_TEXT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    # Wide weights: the logits of a random model then differ by far more than rounding.
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_MOE: dict[str, Any] = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}

#: Family -> what its test checkpoint is called in transformers.
FAMILIES = ("llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_vl_moe")


def make_model(family: str, *, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    """A random float32 model of a family in ``FAMILIES``."""
    torch.manual_seed(seed)
    text = {**_TEXT, **changes}
    if family == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**text)).eval()
    if family == "qwen2":
        text.pop("head_dim")
        return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**text)).eval()
    if family == "qwen3":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**text)).eval()
    if family == "qwen3_moe":
        return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**text, **_MOE)).eval()
    assert family == "qwen3_vl_moe"
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = transformers.Qwen3VLMoeConfig(
        text_config={**text, **_MOE, "rope_parameters": rope}, vision_config=_VISION, tie_word_embeddings=False
    )
    return transformers.Qwen3VLMoeForConditionalGeneration(config).eval()


def make_checkpoint(directory: Path, family: str = "qwen3", *, seed: int = 0, **changes: Any) -> Path:
    """Save a random checkpoint of a family with its tokenizer and chat template; returns the directory."""
    model = make_model(family, seed=seed, **changes)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def save_tokenizer(directory: Path) -> Path:
    """Save a byte-level BPE tokenizer of ``VOCAB_SIZE`` entries with ChatML tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return directory
