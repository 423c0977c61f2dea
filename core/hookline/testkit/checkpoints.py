"""Small random checkpoints with a tokenizer and a chat template, made with transformers: nothing is downloaded.

Also a program, for trying out a model of one's own in a server::

    python -m hookline.testkit.checkpoints checkpoint --architecture MyModelForCausalLM
    hookline serve --model checkpoint
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB_SIZE = 384
#: Ends a turn: "<|im_end|>".
EOS = 2
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
#: The architecture whose layout serves for one that transformers does not have.
PLAIN = "LlamaForCausalLM"
#: Sizes of the text model, in the words of config.json; whatever is not here is the family's default.
SMALL: Mapping[str, Any] = {
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
    "eos_token_id": EOS,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_CORPUS = (
    "The quick brown fox jumps over the lazy dog. 0123456789",
    'Ein Grüßgott, 漢字, naïve café, emoji 👩‍👩‍👧 and {"json": [1, 2, true]}',
    "To be, or not to be, that is the question: whether 'tis nobler in the mind",
)


def is_known(architecture: str) -> bool:
    """Whether transformers has a class of that name."""
    return hasattr(transformers, architecture)


def write_small_checkpoint(
    directory: Path | str,
    *,
    architecture: str = PLAIN,
    like: str = "",
    hf_config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write a float32 checkpoint of about 200,000 random parameters, ready to be served; returns the directory.

    Its config.json lists ``architecture``. ``like`` is the class of transformers that lays out the tensors:
    by default ``architecture`` itself, or ``LlamaForCausalLM`` for one that transformers does not have.
    ``hf_config`` are values of config.json over the sizes in ``SMALL``. Raises ``ValueError`` for a ``like``
    that transformers does not have.
    """
    directory = Path(directory)
    made_as = like or (architecture if is_known(architecture) else PLAIN)
    model = random_model(made_as, hf_config, seed=seed)
    # What is not set here would be saved from the config, and sampling must end somewhere.
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(directory)
    file = directory / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "architectures": [architecture]}, indent=2), encoding="utf-8")
    return save_tokenizer(directory)


def random_model(architecture: str, hf_config: Mapping[str, Any] | None = None, *, seed: int = 0) -> Any:
    """A float32 model of transformers in which no parameter is left at 0 or 1, biases and norms included.

    Raises ``ValueError`` for an architecture that transformers does not have.
    """
    if not is_known(architecture):
        raise ValueError(
            f"transformers {transformers.__version__} has no class '{architecture}'; give one that it has, whose "
            f"layout of tensors is the same ('{PLAIN}', say)"
        )
    model_class: Any = getattr(transformers, architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(small_config(model_class.config_class, hf_config or {}))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def small_config(config_class: Any, hf_config: Mapping[str, Any]) -> Any:
    """A config with the sizes in ``SMALL``, which lie in ``text_config`` where the family nests them."""
    if "text_config" not in getattr(config_class, "sub_configs", {}):
        return config_class(**{**SMALL, **hf_config})
    text = {**SMALL, **hf_config.get("text_config", {})}
    return config_class(**{"tie_word_embeddings": False, **hf_config, "text_config": text})


def save_tokenizer(directory: Path) -> Path:
    """Save a byte-level BPE tokenizer of ``VOCAB_SIZE`` entries with ChatML tokens, and a ChatML template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
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
        "model_max_length": SMALL["max_position_embeddings"],
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return directory


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the checkpoint that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m hookline.testkit.checkpoints", description="write a small random checkpoint"
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--architecture", default=PLAIN, help="what config.json lists; default: %(default)s")
    parser.add_argument(
        "--like", default="", help=f"class of transformers that lays out the tensors; default: ARCHITECTURE or {PLAIN}"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        write_small_checkpoint(given.directory, architecture=given.architecture, like=given.like, seed=given.seed)
    except (ValueError, OSError) as exc:
        parser.error(str(exc))
    print(f"{given.directory}: {given.architecture} with random weights")  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
