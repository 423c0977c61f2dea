"""MaskFiller: which tokens the constrained requests of a pass may sample."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.errors import RequestError

if TYPE_CHECKING:
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.req import Req
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.schedule_batch import Pass

log = logging.getLogger(__name__)

#: Bits of all masks of a pass that are worth the way to other threads: some 0.2 ms.
_LEAST_BITS = 200_000


class MaskFiller:
    """Fills bitmasks. Call it when all tokens sampled before the pass were accepted by their grammars."""

    def __init__(self, vocab_size: int, roster: Roster, finisher: Finisher, *, num_threads: int = 1) -> None:
        """Up to ``num_threads`` fill the rows of one pass where it is worth it."""
        self._vocab_size = vocab_size
        self._num_words = -(-vocab_size // 32)
        self._roster = roster
        self._finisher = finisher
        self._num_threads = num_threads
        #: Started with the first pass that is worth it.
        self._pool: ThreadPoolExecutor | None = None

    def fill(self, a_pass: Pass) -> npt.NDArray[np.int32]:
        """int32 [constrained, ceil(V / 32)]; bit i % 32 of word i // 32 allows token i.

        A request that has ended since the pass was launched may sample anything: nobody will read it. A new
        array each time, since the device may still read the last one.
        """
        mask_BW = np.full((len(a_pass.constrained), self._num_words), -1, dtype=np.int32)
        batch = a_pass.batch
        rows = [
            (row, batch.reqs[index])
            for row, index in enumerate(a_pass.constrained)
            if batch.reqs[index].epoch == batch.epochs[index]
        ]
        for (row, req), error in zip(rows, self._fill_rows(mask_BW, rows), strict=True):
            if error is not None:
                mask_BW[row] = -1
                self._finisher.fail(req, error)
        self._roster.sweep()
        return mask_BW

    def _fill_rows(self, mask_BW: npt.NDArray[np.int32], rows: list[tuple[int, Req]]) -> list[RequestError | None]:
        """What went wrong with each row. Backends leave the interpreter while they compute a mask."""
        num_parts = min(self._num_threads, len(rows))
        if num_parts < 2 or len(rows) * self._vocab_size < _LEAST_BITS:
            return [_fill_row(mask_BW, row, req) for row, req in rows]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._num_threads - 1, thread_name_prefix="grammar-mask")

        def part(number: int) -> list[RequestError | None]:
            return [_fill_row(mask_BW, row, req) for row, req in rows[number::num_parts]]

        others = [self._pool.submit(part, number) for number in range(1, num_parts)]
        found: list[RequestError | None] = [None] * len(rows)
        found[::num_parts] = part(0)
        for number, other in enumerate(others, 1):
            found[number::num_parts] = other.result()
        return found


def _fill_row(mask_BW: npt.NDArray[np.int32], row: int, req: Req) -> RequestError | None:
    assert req.matcher is not None
    try:
        req.matcher.fill_bitmask(mask_BW, row)
        _hold_back_ends(req, mask_BW[row])
    except RequestError as error:
        return error
    except Exception as error:
        log.exception("the grammar of request %s failed", req.rid)
        message = f"the grammar failed on the output so far: {type(error).__name__}: {error}"
        return RequestError(message, code="grammar_failed", status_code=500)
    return None


def _hold_back_ends(req: Req, mask_W: npt.NDArray[np.int32]) -> None:
    """Forbid the end tokens before ``min_new_tokens``, unless the grammar allows nothing else any more."""
    if len(req.output_ids) >= req.params.min_new_tokens:
        return
    held_W = mask_W.view(np.uint32).copy()
    for token_id in req.end_ids:
        held_W[token_id // 32] &= np.uint32(0xFFFFFFFF ^ (1 << token_id % 32))
    if held_W.any():
        mask_W[:] = held_W.view(np.int32)
