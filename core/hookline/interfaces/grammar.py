"""Grammar backends: compile a grammar once, then follow it token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from hookline.errors import RequestError
from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hookline.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarBackendSpec(Spec):
    """A grammar backend. ``target`` is a subclass of ``GrammarBackend``, called with a ``GrammarEnv``.

    ``kinds`` are the grammar fields of SamplingParams that it compiles: "json_schema", "json_object", "regex",
    "ebnf", "choice", "structural_tag".
    """

    kind: ClassVar[str] = "grammar_backends"
    target_base: ClassVar[str] = "hookline.interfaces.grammar:GrammarBackend"
    known_features: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "rollback": "accepted tokens can be taken back",
            "tag_formats": "structural tags of all formats that calls are written with, not of triggered_tags alone",
        }
    )

    kinds: frozenset[str] = frozenset()
    #: Those of ``kinds`` that it compiles at once, whatever the size of the vocabulary. With
    #: ``grammar.grammar_backend`` "auto" it is asked for these before backends of a higher priority.
    quick_kinds: frozenset[str] = frozenset()


class UnsupportedGrammarError(RequestError):
    """The source says something that this backend does not enforce, although it may be right.

    The next loaded backend that supports the kind is asked; if none is left, this is the request's error.
    """

    code = "unsupported_grammar"


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

    def pack(self) -> bytes:
        """The grammar as bytes for ``GrammarBackend.unpack``, on its way out of the process that compiled it.

        Empty (the default): it cannot travel, and is compiled once more where it is used.
        """
        return b""


class MaskBatcher(ABC):
    """Fills the masks of several matchers of one backend in one call, in threads of its own."""

    @abstractmethod
    def fill(
        self,
        matchers: Sequence[GrammarMatcher],
        bitmask_BW: npt.NDArray[np.int32],
        rows: Sequence[int],
        num_threads: int,
    ) -> list[RequestError | None]:
        """Do ``fill_bitmask`` for every matcher and its row; gives what went wrong with each.

        Up to ``num_threads`` may compute, all of them without the interpreter. The time of a step is not measured
        here: the backend limits it itself. What is raised is taken as a failure of all: then each is filled by itself.
        """


class GrammarMatcher(ABC):
    """The state of one request in its grammar. Used from one thread at a time.

    A step (``accept_token`` or ``fill_bitmask``) that takes more than ``grammar.grammar_step_timeout`` of processor
    time ends the request. A ``RequestError`` ends it with that error, any other exception with status 500.
    """

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
    def in_batch(self) -> tuple[MaskBatcher, GrammarMatcher] | None:
        """What may fill the next mask of this matcher together with others, and the matcher to give it; ``None`` (the
        default): ``fill_bitmask`` alone."""
        return None

    def forced_text(self) -> bytes:
        """The bytes that must come next, however they are cut into tokens; empty where there is a choice, an end or
        a special token. The state does not change. Empty (the default) also where the backend does not tell."""
        return b""

    @property
    @abstractmethod
    def is_terminated(self) -> bool:
        """Whether the grammar is complete and an end token was accepted: nothing may follow."""


class GrammarBackend(ABC):
    """Compiles grammars. Made in a process of its own, whose forks ``compile``: one after the other, as long as they
    compile or raise ``RequestError``, and killed where they take too much. No thread may run once the backend is made.
    Made in the scheduler process too, where ``unpack`` is called from worker threads.

    ``source`` is the grammar's text. Of the kind "json_object" it is the schema ``{"type": "object"}``, of "choice"
    a JSON array of texts, none of them empty.

    Text that a grammar describes holds no special token (``Tokenizer.special_ids``). In the literals of a structural
    tag their texts stand for them; a backend that cannot produce them raises ``UnsupportedGrammarError``. Text around
    tags may hold any but those that end the output.
    """

    def __init__(self, env: GrammarEnv) -> None:
        self.env = env

    @abstractmethod
    def compile(self, kind: str, source: str) -> CompiledGrammar:
        """Compile; may take seconds, up to ``grammar.grammar_timeout``.

        Raises ``RequestError`` that says what is wrong with ``source``, ``UnsupportedGrammarError`` for what another
        backend might enforce. Called from several threads at once where ``grammar.grammar_workers`` is 0.
        """

    def unpack(self, kind: str, source: str, packed: bytes) -> CompiledGrammar:
        """The grammar that another process compiled; ``packed`` is what ``pack`` gave there."""
        assert not packed, "override unpack where pack is overridden"
        return self.compile(kind, source)
