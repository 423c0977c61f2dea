"""BoundedMatcher: a matcher whose steps may not take long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarMatcher

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hookline.interfaces.grammar import MaskBatcher

#: The part of the limit that every step may take, for as long as the request lives.
_SHARE = 0.1


class BoundedMatcher(GrammarMatcher):
    """Ends a request whose grammar holds up the loop, once it has done so.

    A step cannot be interrupted. It may take ``limit`` seconds of processor time; what it takes beyond a tenth of
    that is debt, which cheaper steps pay back, and more than ``limit`` of debt ends the request too. Time that
    other threads and processes take does not count.
    """

    def __init__(self, matcher: GrammarMatcher, limit: float, clock: Callable[[], float] = time.thread_time) -> None:
        self._matcher = matcher
        self._limit = limit
        self._clock = clock
        self._debt = 0.0

    def accept_token(self, token_id: int) -> bool:
        started = self._clock()
        accepted = self._matcher.accept_token(token_id)
        self._charge(self._clock() - started)
        return accepted

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        started = self._clock()
        self._matcher.fill_bitmask(bitmask_BW, row)
        self._charge(self._clock() - started)

    @property
    def in_batch(self) -> tuple[MaskBatcher, GrammarMatcher] | None:
        # What fills several masks at once limits the time itself.
        return self._matcher.in_batch

    def rollback(self, num_tokens: int) -> None:
        self._matcher.rollback(num_tokens)

    def forced_text(self) -> bytes:
        started = self._clock()
        text = self._matcher.forced_text()
        self._charge(self._clock() - started)
        return text

    @property
    def is_terminated(self) -> bool:
        return self._matcher.is_terminated

    def _charge(self, seconds: float) -> None:
        self._debt = max(0.0, self._debt + seconds - self._limit * _SHARE)
        if seconds > self._limit or self._debt > self._limit:
            raise RequestError(
                f"the grammar takes too long for each token ({seconds:.2g} s for this one; grammar_step_timeout is "
                f"{self._limit:g} s); simplify it",
                code="grammar_too_slow",
            )
