"""TransformersTokenizer: a checkpoint without tokenizer.json, loaded by transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hookline.errors import ModelError
from hookline.text.fast_tokenizer import FastTokenizer
from hookline.text.tokenizer import Tokenizer

_NEUTRAL = "a"


class TransformersTokenizer(Tokenizer):
    """A tokenizer that transformers implements in Python."""

    knows_bytes = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        self.special_ids = frozenset(tokenizer.all_special_ids)
        self.vocab_size = max(tokenizer.get_vocab().values(), default=-1) + 1
        # What the token says beside a neutral one is what it says inside a text.
        self._anchor: list[int] = tokenizer.encode(_NEUTRAL, add_special_tokens=False)
        self._anchor_text: str = self.decode(self._anchor)

    @classmethod
    def load(cls, directory: Path) -> Tokenizer:
        """From a directory; ``ModelError`` if transformers finds no tokenizer in it.

        If transformers makes a tokenizer of the tokenizers library, that one is used directly.
        """
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        except Exception as exc:  # whatever a foreign file makes transformers raise
            found = ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
            reason = str(exc).strip().partition("\n")[0]
            raise ModelError(
                f"no tokenizer in '{directory}': there is no tokenizer.json, and transformers reads none of the "
                f"other files ({type(exc).__name__}: {reason}); found: {found}. Add the checkpoint's tokenizer, "
                f"name another one with `tokenizer`, or set `skip_tokenizer_init` to work with token ids only"
            ) from exc
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            return cls(tokenizer)
        backend = tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        return FastTokenizer(
            backend,
            special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            clean_up_spaces=tokenizer.clean_up_tokenization_spaces and type(backend.model).__name__ != "BPE",
        )

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        text: str = self._tokenizer.decode(
            [index for index in ids if 0 <= index < self.vocab_size],
            skip_special_tokens=skip_special_tokens,
            spaces_between_special_tokens=spaces_between_special_tokens,
        )
        return text

    def token_id(self, token: str) -> int | None:
        index: int | None = self._tokenizer.get_vocab().get(token)
        return index

    def token_bytes(self, token_id: int) -> bytes:
        if token_id in self.special_ids:
            return str(self._tokenizer.convert_ids_to_tokens(token_id)).encode()
        text = self.decode([*self._anchor, token_id])
        return text.removeprefix(self._anchor_text).encode()
