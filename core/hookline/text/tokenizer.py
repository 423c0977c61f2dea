"""Tokenizer: text to token ids and back, the same for every kind of checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from hookline.errors import ModelError


class Tokenizer(ABC):
    """Text to token ids and back, with the answers that transformers gives for the same checkpoint.

    Safe to use from several threads. Ids outside the vocabulary decode to nothing.
    """

    #: Named special tokens: "bos_token", "eos_token", … -> text, as the checkpoint's files name them.
    special_tokens: Mapping[str, str]
    #: Ids that ``skip_special_tokens`` leaves out.
    special_ids: frozenset[int]
    #: One more than the largest id.
    vocab_size: int
    #: Whether a text is its tokens' bytes, joined: then it can be decoded token by token.
    is_byte_level: bool = False
    #: Whether ``token_bytes`` is exact for tokens that are part of a character.
    knows_bytes: bool = True

    @abstractmethod
    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. Special tokens written out in the text are recognised as such."""

    @abstractmethod
    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        spaces_between_special_tokens: bool = True,
    ) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD.

        ``spaces_between_special_tokens`` matters only to the few tokenizers that transformers implements
        in Python; for all others transformers ignores it too.
        """

    @abstractmethod
    def token_id(self, token: str) -> int | None:
        """Id of a token as the vocabulary spells it ("Ġthe", "▁the"), or ``None``."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds inside a text, its leading space included; empty for an id without one.

        They may be part of a character only.
        """

    def text_bytes(self, token_id: int) -> bytes:
        """The bytes that ``decode`` takes a token for, if ``is_byte_level``. They differ from ``token_bytes``
        for added tokens alone: a byte-level decoder reads those, too, in its own alphabet."""
        raise NotImplementedError(f"{type(self).__name__} is not byte-level")

    def token_text(self, token_id: int) -> str:
        """``token_bytes`` as text; bytes that are not UTF-8 become U+FFFD."""
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    @property
    def eos_token_id(self) -> int | None:
        """Id of the tokenizer's end-of-sequence token; the model's own set may hold others."""
        token = self.special_tokens.get("eos_token")
        return None if token is None else self.token_id(token)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a directory; ``ModelError`` if there is none or it does not load.

    tokenizer.json is read without transformers and torch. Other formats go through
    ``transformers.AutoTokenizer``.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ModelError(f"no tokenizer: '{directory}' is not a directory")
    if (directory / "tokenizer.json").is_file():
        from hookline.text.fast_tokenizer import FastTokenizer

        return FastTokenizer.load(directory)
    from hookline.text.transformers_tokenizer import TransformersTokenizer

    return TransformersTokenizer.load(directory)
