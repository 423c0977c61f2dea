"""Grammar backends: compile a grammar once, then follow it token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hookline.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarBackendSpec(Spec):
    """A grammar backend. ``target`` is a subclass of ``GrammarBackend``, called with a ``GrammarEnv``.

    ``kinds`` are the grammar fields of SamplingParams that it compiles: "json_schema", "regex", "ebnf",
    "structural_tag".
    """

    kind: ClassVar[str] = "grammar_backends"
    target_base: ClassVar[str] = "hookline.interfaces.grammar:GrammarBackend"
    known_features: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "rollback": "accepted tokens can be taken back",
        }
    )

    kinds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarEnv:
    """Fixed facts, known when the backend is made."""

    #: Gives the bytes of every token: ``token_bytes``.
    tokenizer: Tokenizer
    #: Rows of the logits; at least the tokenizer's size.
    vocab_size: int
    #: Tokens that may end the output once the grammar is complete.
    end_token_ids: tuple[int, ...]
    options: Any = None


class CompiledGrammar(ABC):
    """A compiled grammar, shared by all requests that use it."""

    @abstractmethod
    def matcher(self) -> GrammarMatcher:
        """A fresh matcher at the start of the grammar."""

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, roughly: the cache of compiled grammars is bounded by the sum."""
        return 64 * 1024


class GrammarMatcher(ABC):
    """The state of one request in its grammar. Used from the scheduler's thread only."""

    @abstractmethod
    def accept_token(self, token_id: int) -> bool:
        """Advance by a sampled token; false (state unchanged) if the grammar forbids it."""

    @abstractmethod
    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        """Write which tokens may come next into ``bitmask_BW[row]``: bit i % 32 of word i // 32 is token i."""

    @abstractmethod
    def rollback(self, num_tokens: int) -> None:
        """Undo the last ``num_tokens`` accepted tokens."""

    @property
    @abstractmethod
    def is_terminated(self) -> bool:
        """Whether the grammar is complete and an end token was accepted: nothing may follow."""


class GrammarBackend(ABC):
    """Compiles grammars. Made once in the scheduler process; ``compile`` is called from a worker thread."""

    def __init__(self, env: GrammarEnv) -> None:
        self.env = env

    @abstractmethod
    def compile(self, kind: str, source: str) -> CompiledGrammar:
        """Compile; raises ``RequestError`` that says what is wrong with ``source``. May take seconds."""
