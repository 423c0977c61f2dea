"""What a frontend needs of a checkpoint: configuration and tokenizer, no weights. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.factories.chat_templates import TOOLS

CONTEXT_LEN = 256
#: Rows of the model's embedding; a few more than the tokenizer has tokens.
VOCAB_SIZE = 320
_CORPUS = ["the quick brown fox", "to be or not to be", "Grüß Gott, 漢字"]


def save_frontend_checkpoint(
    directory: Path, *, generation_config: dict[str, Any] | None = None, **changes: Any
) -> Path:
    """A checkpoint directory without weights; ``changes`` go into config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.save(str(directory / "tokenizer.json"))
    _write(directory / "tokenizer_config.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    (directory / "chat_template.jinja").write_text(TOOLS)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT_LEN,
        "eos_token_id": 2,
    }
    _write(directory / "config.json", {**config, **changes})
    if generation_config is not None:
        _write(directory / "generation_config.json", generation_config)
    return directory


def _write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values))
