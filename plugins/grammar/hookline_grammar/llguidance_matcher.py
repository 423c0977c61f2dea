"""LLGuidanceMatcher: one output followed by the llguidance library; LLGuidanceBatcher fills the masks of many.

Shape letters: B outputs, W words of a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import llguidance
import numpy as np
import numpy.typing as npt

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarMatcher, MaskBatcher
from hookline_grammar.vocabulary import SPECIAL_MARK


class LLGuidanceMatcher(GrammarMatcher):
    """One output under a grammar."""

    def __init__(
        self, matcher: llguidance.LLMatcher, vocab_size: int, ends: frozenset[int], batcher: LLGuidanceBatcher
    ) -> None:
        self._matcher = matcher
        self._batcher = batcher
        self._vocab_size = vocab_size
        self._ends = ends
        self._num_words = -(-vocab_size // 32)
        self._num_accepted = 0
        self._has_ended = False

    def accept_token(self, token_id: int) -> bool:
        if self.is_terminated or not 0 <= token_id < self._vocab_size:
            return False
        if token_id in self._ends:
            self._has_ended = self._matcher.is_accepting()
            return self._has_ended
        accepted = self._matcher.try_consume_tokens([token_id]) == 1
        self._check()
        self._num_accepted += accepted
        return accepted

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        mask_W = bitmask_BW[row]
        words_W = None
        if self.wants_words:
            words_W = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.int32)
        self.take_words(mask_W, words_W)

    @property
    def in_batch(self) -> tuple[MaskBatcher, GrammarMatcher]:
        return self._batcher, self

    @property
    def library_matcher(self) -> llguidance.LLMatcher:
        """The library's own."""
        return self._matcher

    @property
    def wants_words(self) -> bool:
        """Whether the library has a mask for what comes next: it has none behind the end."""
        return not self._has_ended and not self._matcher.is_stopped()

    def take_words(self, mask_W: npt.NDArray[np.int32], words_W: npt.NDArray[np.int32] | None) -> None:
        """Write the mask from the library's. ``RequestError`` if it allows nothing, or the library gave up."""
        if not self._write(mask_W, words_W):
            raise RequestError("the grammar allows no token here", code="grammar_dead_end")

    def rollback(self, num_tokens: int) -> None:
        accepted = self._num_accepted + self._has_ended
        if not 0 <= num_tokens <= accepted:
            raise ValueError(f"{accepted} tokens were accepted; {num_tokens} cannot be undone")
        if num_tokens and self._has_ended:
            self._has_ended = False
            num_tokens -= 1
        if num_tokens:
            self._matcher.rollback(num_tokens)
            self._check()
            self._num_accepted -= num_tokens

    def forced_text(self) -> bytes:
        if self._has_ended or self._matcher.is_stopped():
            return b""
        # A special token comes as a mark that is no text, and what follows it as if it were there.
        text, _, _ = bytes(self._matcher.compute_ff_bytes()).partition(SPECIAL_MARK)
        self._check()
        return text

    @property
    def is_terminated(self) -> bool:
        # Without an end token an output ends where nothing can follow.
        return self._has_ended or (not self._ends and self._matcher.is_stopped())

    def allows_any(self) -> bool:
        """Whether some token may come next."""
        if self.is_terminated:
            return True
        words_W = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.int32) if self.wants_words else None
        return self._write(np.empty(self._num_words, dtype=np.int32), words_W)

    def _write(self, mask_W: npt.NDArray[np.int32], words_W: npt.NDArray[np.int32] | None) -> bool:
        if words_W is None:
            mask_W[:] = 0
        else:
            self._check()
            mask_W[:] = words_W[: self._num_words]
            # The library's own end token may be in the last word.
            if self._vocab_size % 32:
                mask_W[-1] &= np.int32((1 << self._vocab_size % 32) - 1)
        if self._has_ended or self._matcher.is_accepting():
            for end in self._ends:
                mask_W[end // 32] |= np.uint32(1 << end % 32).view(np.int32)
        return bool(mask_W.any())

    def _check(self) -> None:
        """The library never leaves a state of error: that of a limit, as a rule."""
        if self._matcher.is_error():
            raise RequestError(
                f"the grammar is too complex to follow here: {first_line(self._matcher.get_error())}",
                code="grammar_too_complex",
            )


class LLGuidanceBatcher(MaskBatcher):
    """Has the library compute the masks of many outputs in threads of its own. Used from one thread at a time."""

    def __init__(self, vocab_size: int) -> None:
        # The library has an end token of its own behind the vocabulary.
        self._num_words = -(-(vocab_size + 1) // 32)
        #: Its threads start with the first masks: none may run where grammars are compiled.
        self._executor: llguidance.LLExecutor | None = None
        self._words_BW = np.empty((0, self._num_words), dtype=np.int32)

    def fill(
        self,
        matchers: Sequence[GrammarMatcher],
        bitmask_BW: npt.NDArray[np.int32],
        rows: Sequence[int],
        num_threads: int,
    ) -> list[RequestError | None]:
        if self._executor is None:
            self._executor = llguidance.LLExecutor(num_threads)
        if len(self._words_BW) < len(matchers):
            self._words_BW = np.empty((len(matchers), self._num_words), dtype=np.int32)
        words_BW = self._words_BW
        ours = [matcher for matcher in matchers if isinstance(matcher, LLGuidanceMatcher)]
        are_asked = [matcher.wants_words for matcher in ours]
        asked = [
            (matcher.library_matcher, place)
            for place, (matcher, is_asked) in enumerate(zip(ours, are_asked, strict=True))
            if is_asked
        ]
        if asked:
            self._executor.unsafe_compute_mask_ptr(asked, words_BW.ctypes.data, self._num_words * 4, len(words_BW))
        errors: list[RequestError | None] = []
        for place, (matcher, row, is_asked) in enumerate(zip(ours, rows, are_asked, strict=True)):
            try:
                matcher.take_words(bitmask_BW[row], words_BW[place] if is_asked else None)
                errors.append(None)
            except RequestError as error:
                errors.append(error)
        return errors


def first_line(text: str) -> str:
    """What the library says, without the quotations of the grammar below."""
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    said = [line for line in lines if line and not line.startswith(("^", "|"))]
    errors = [line for line in said if line.startswith("error:")]
    return (errors or said or ["no reason given"])[0][:300]
