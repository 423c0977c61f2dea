"""ThinkingMatcher: reasoning first, bounded if that is asked for, then what a grammar constrains."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarMatcher
from hookline.scheduler.spellings import Spellings, begins_character, is_blank

if TYPE_CHECKING:
    from hookline.interfaces.grammar import MaskBatcher
    from hookline.interfaces.parsers import ReasoningSpan
    from hookline.scheduler.req import Req
    from hookline.text.tokenizer import Tokenizer

#: Tokens of white space that may stand between the reasoning and what the grammar begins with.
_MAX_BLANKS = 4


class Phase(Enum):
    """Where an output stands."""

    #: At its start, where a grammar waits: reasoning may begin, or what the grammar wants.
    START = "start"
    THINKING = "thinking"
    #: Behind the reasoning: white space, until the grammar begins.
    GAP = "gap"
    #: The grammar alone.
    GRAMMAR = "grammar"
    #: Outside of reasoning, without a grammar.
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Place:
    """The state of an output, apart from its grammar."""

    phase: Phase
    #: Bytes of the marker that is looked for.
    matched: int = 0
    num_thought: int = 0
    num_blanks: int = 0
    #: The last bytes of the reasoning.
    tail: bytes = b""
    #: Whether the grammar took all tokens from the start so far.
    fits: bool = True
    #: Tokens that the grammar has taken.
    num_taken: int = 0


class ThinkingMatcher(GrammarMatcher):
    """Follows an output through its reasoning, of which a grammar sees nothing.

    Markers are found in bytes, so it does not matter whether they are one token or several, or how a model cuts
    them. While a grammar waits, the reasoning can neither end the output nor run into what follows in one token.
    Behind ``max_tokens`` tokens of reasoning its closing marker is the only thing allowed.
    """

    def __init__(
        self,
        spellings: Spellings,
        span: ReasoningSpan,
        inner: GrammarMatcher | None,
        *,
        max_tokens: int | None,
        end_ids: frozenset[int],
    ) -> None:
        self._spellings = spellings
        self._open = spellings.marker(span.open)
        self._close = spellings.marker(span.close)
        self._inner = inner
        self._max_tokens = max_tokens
        self._end_ids = end_ids
        self._end_bits = spellings.bits(index for index in end_ids if index < spellings.vocab_size)
        self._exits = frozenset(index for text in span.exits for index in spellings.ids_of(text.encode()))
        self._place = Place(_first_phase(span, has_grammar=inner is not None))
        self._tokens: list[int] = []
        self._places: list[Place] = []

    def accept_token(self, token_id: int) -> bool:
        if not 0 <= token_id < self._spellings.vocab_size:
            return False
        place = self._after(token_id)
        if place is None:
            return False
        self._places.append(self._place)
        self._tokens.append(token_id)
        self._place = place
        return True

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        mask_W = bitmask_BW[row]
        place = self._place
        if place.phase is Phase.THINKING:
            self._fill_thinking(mask_W)
        elif place.phase is Phase.FREE or self._inner is None:
            mask_W[:] = self._spellings.everything
        else:
            mask_W[:] = 0
            if place.fits:
                self._inner.fill_bitmask(bitmask_BW, row)
            if place.phase is Phase.START:
                mask_W |= self._open.continuing(place.matched)
            elif place.phase is Phase.GAP and place.num_blanks < _MAX_BLANKS:
                mask_W |= self._spellings.blank

    @property
    def in_batch(self) -> tuple[MaskBatcher, GrammarMatcher] | None:
        """The grammar's own once nothing else may stand there."""
        if self._inner is None or self._place.phase is not Phase.GRAMMAR:
            return None
        return self._inner.in_batch

    def rollback(self, num_tokens: int) -> None:
        if not num_tokens:
            return
        undone = self._tokens[-num_tokens:]
        before = self._places[-num_tokens]
        taken = self._place.num_taken - before.num_taken
        del self._places[-num_tokens:]
        del self._tokens[-num_tokens:]
        self._place = before
        if self._inner is None:
            return
        if taken >= 0:
            self._inner.rollback(taken)
        else:
            # The grammar had taken the first tokens of what turned out to be the marker.
            for token_id in [*self._tokens, *undone][:-taken]:
                self._inner.accept_token(token_id)

    @property
    def is_terminated(self) -> bool:
        return self._place.phase is Phase.GRAMMAR and self._inner is not None and self._inner.is_terminated

    def forced_text(self) -> bytes:
        """What the grammar forces next; the reasoning is not forced but by its bound."""
        if self._inner is None or self._place.phase is not Phase.GRAMMAR:
            return b""
        return self._inner.forced_text()

    def _after(self, token_id: int) -> Place | None:
        """The place behind a token; ``None`` if it is not allowed. Advances the grammar."""
        place, piece = self._place, self._spellings.of[token_id]
        if place.phase is Phase.THINKING:
            return self._think(token_id, piece)
        if place.phase is Phase.FREE:
            matched, end = self._open.advance(place.matched, piece)
            if end is None:
                return replace(place, matched=matched)
            return self._thought(replace(place, phase=Phase.THINKING, matched=0, tail=b""), piece[end:], num_tokens=0)
        assert self._inner is not None
        if place.phase is Phase.START:
            return self._start(token_id, piece)
        if self._inner.accept_token(token_id):
            return replace(place, phase=Phase.GRAMMAR, num_taken=place.num_taken + 1)
        if place.phase is Phase.GAP and is_blank(piece) and place.num_blanks < _MAX_BLANKS:
            return replace(place, num_blanks=place.num_blanks + 1)
        return None

    def _start(self, token_id: int, piece: bytes) -> Place | None:
        """Both ways are followed until one is left."""
        assert self._inner is not None
        place = self._place
        is_marker = bool(piece) and self._open.spelt.startswith(piece, place.matched)
        fits = place.fits and self._inner.accept_token(token_id)
        if not is_marker:
            return replace(place, phase=Phase.GRAMMAR, num_taken=place.num_taken + 1) if fits else None
        if fits and place.matched + len(piece) < len(self._open.spelt):
            return replace(place, matched=place.matched + len(piece), num_taken=place.num_taken + 1)
        self._inner.rollback(place.num_taken + fits)
        place = replace(place, matched=place.matched + len(piece), fits=False, num_taken=0)
        if place.matched < len(self._open.spelt):
            return place
        return replace(place, phase=Phase.THINKING, matched=0, fits=True)

    def _think(self, token_id: int, piece: bytes) -> Place | None:
        place = self._place
        if self._inner is not None:
            if token_id in self._end_ids:
                return None
            if token_id in self._exits:
                is_taken = self._inner.accept_token(token_id)
                return replace(place, phase=Phase.GRAMMAR, num_taken=place.num_taken + 1) if is_taken else None
        forced = self._forced_id()
        if forced is not None and token_id != forced:
            return None
        return self._thought(place, piece, num_tokens=1)

    def _thought(self, place: Place, piece: bytes, *, num_tokens: int) -> Place | None:
        """The place behind a piece of reasoning."""
        matched, end = self._close.advance(place.matched, piece)
        num_thought = place.num_thought + num_tokens
        if end is None:
            return replace(place, matched=matched, num_thought=num_thought, tail=(place.tail + piece)[-3:])
        if self._inner is None:
            matched, _ = self._open.advance(0, piece[end:])
            return Place(Phase.FREE, matched=matched, num_thought=num_thought)
        return None if piece[end:] and not is_blank(piece[end:]) else Place(Phase.GAP, num_thought=num_thought)

    def _forced_id(self) -> int | None:
        """The next token of the closing marker once the reasoning has been long enough."""
        place = self._place
        if self._max_tokens is None or place.num_thought < self._max_tokens:
            return None
        if not place.matched and begins_character(place.tail):
            return None
        return self._close.next_id(place.matched)

    def _fill_thinking(self, mask_W: npt.NDArray[np.int32]) -> None:
        forced = self._forced_id()
        if forced is not None:
            mask_W[:] = self._spellings.bits([forced])
            return
        mask_W[:] = self._spellings.everything
        if self._inner is None:
            return
        mask_W &= ~self._end_bits
        mask_W &= ~self._close.crossing(self._place.matched)
        if self._exits:
            wanted_BW = np.zeros((1, len(mask_W)), dtype=np.int32)
            self._inner.fill_bitmask(wanted_BW, 0)
            exits = self._spellings.bits(self._exits)
            mask_W[:] = (mask_W & ~exits) | (exits & wanted_BW[0])


class ThinkingMatchers:
    """Makes a ``ThinkingMatcher`` for each request that needs one. Spellings are read in a thread when first asked."""

    def __init__(self, get_tokenizer: Callable[[], Tokenizer], vocab_size: int) -> None:
        self._get_tokenizer = get_tokenizer
        self._vocab_size = vocab_size
        self._spellings: Future[Spellings] | None = None

    def is_ready(self) -> bool:
        """Whether matchers can be made; the first call begins to see to it."""
        if self._spellings is None:
            executor = ThreadPoolExecutor(1, thread_name_prefix="spellings")
            self._spellings = executor.submit(lambda: Spellings(self._get_tokenizer(), self._vocab_size))
            executor.shutdown(wait=False)
        return self._spellings.done()

    def matcher(self, req: Req, inner: GrammarMatcher | None) -> ThinkingMatcher:
        """For a request whose reasoning is known. ``RequestError`` if its markers cannot be written."""
        span = req.request.reasoning
        assert span is not None
        assert self._spellings is not None
        spellings = self._spellings.result()
        if req.params.max_thinking_tokens is not None and spellings.marker(span.close).next_id(0) is None:
            raise RequestError(
                f"this vocabulary cannot write {span.close!r}, which ends reasoning", param="max_thinking_tokens"
            )
        return ThinkingMatcher(spellings, span, inner, max_tokens=req.params.max_thinking_tokens, end_ids=req.end_ids)


def _first_phase(span: ReasoningSpan, *, has_grammar: bool) -> Phase:
    if span.state == "open":
        return Phase.THINKING
    if not has_grammar:
        return Phase.FREE
    return Phase.START if span.state == "possible" else Phase.GRAMMAR
