"""TokenizerFiles: what tokenizer_config.json and its older companions say beside tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from hookline.errors import ModelError

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFiles:
    """Settings that complete a tokenizer.json, read with the precedence that transformers gives them."""

    #: Named special tokens, model-specific ones ("image_token") included.
    special_tokens: Mapping[str, AddedToken]
    #: Special tokens without a name.
    extra_special_tokens: tuple[AddedToken, ...]
    #: Id -> token, from the config.
    added_tokens: Mapping[int, AddedToken]
    split_special_tokens: bool
    clean_up_spaces: bool
    clean_up_spaces_of_bpe: bool

    @classmethod
    def read(cls, directory: Path) -> TokenizerFiles:
        """From a tokenizer's directory; ``ModelError`` for a file that is not a JSON object."""
        config = read_json(directory / "tokenizer_config.json")
        if "extra_special_tokens" not in config and "additional_special_tokens" in config:
            config["extra_special_tokens"] = config["additional_special_tokens"]
        added = {int(key): _token(value) for key, value in config.get("added_tokens_decoder", {}).items()}
        if "added_tokens_decoder" not in config:
            _merge_special_tokens_map(config, read_json(directory / "special_tokens_map.json"))
        by_text = {token.content: token for token in added.values()}
        named: dict[str, AddedToken] = {}
        for key, value in config.items():
            if key in _NAMED or (key.endswith("_token") and isinstance(value, (str, dict))):
                _put(named, key, value, by_text)
        extra = config.get("extra_special_tokens") or []
        if isinstance(extra, dict):
            for key, value in extra.items():
                _put(named, key, value, by_text)
            extra = []
        return cls(
            special_tokens=named,
            extra_special_tokens=tuple(_token(value) for value in extra),
            added_tokens=added,
            split_special_tokens=bool(config.get("split_special_tokens", False)),
            clean_up_spaces=bool(config.get("clean_up_tokenization_spaces", False)),
            clean_up_spaces_of_bpe=bool(
                config.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
            ),
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty if there is no such file; ``ModelError`` if it is something else."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as exc:
        raise ModelError(f"{path} cannot be read as JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def _merge_special_tokens_map(config: dict[str, Any], legacy: dict[str, Any]) -> None:
    for key, value in legacy.items():
        target = "extra_special_tokens" if key == "additional_special_tokens" else key
        if target == "extra_special_tokens" and isinstance(value, list):
            kept = config.get(target) or []
            value = [*kept, *(token for token in value if token not in kept)] if isinstance(kept, list) else kept
        config[target] = value


def _put(named: dict[str, AddedToken], key: str, value: object, by_text: Mapping[str, AddedToken]) -> None:
    if value is not None:
        token = _token(value)
        named[key] = by_text.get(token.content, token)


def _token(value: object) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, special=True, normalized=False)
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        flags = {key: bool(value[key]) for key in ("single_word", "lstrip", "rstrip", "normalized") if key in value}
        return AddedToken(value["content"], special=bool(value.get("special", True)), **flags)
    raise ModelError(f"a special token in the tokenizer's files must be a string or an object, not {value!r:.80}")
