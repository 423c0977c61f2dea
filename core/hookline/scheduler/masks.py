"""MaskFiller: which tokens the constrained requests of a pass may sample."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.errors import RequestError

if TYPE_CHECKING:
    from hookline.interfaces.grammar import GrammarMatcher, MaskBatcher
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.req import Req
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.schedule_batch import Pass

log = logging.getLogger(__name__)

#: Bits of all masks of a pass that are worth the way to other threads.
_LEAST_BITS = 200_000


class MaskFiller:
    """Fills bitmasks. Call it when all tokens sampled before the pass were accepted by their grammars."""

    def __init__(self, vocab_size: int, roster: Roster, finisher: Finisher, *, num_threads: int = 1) -> None:
        """Up to ``num_threads`` of a backend fill the rows of one pass."""
        self._vocab_size = vocab_size
        self._num_words = -(-vocab_size // 32)
        self._roster = roster
        self._finisher = finisher
        self._num_threads = num_threads

    def fill(self, a_pass: Pass) -> npt.NDArray[np.int32]:
        """int32 [constrained, ceil(V / 32)]; bit i % 32 of word i // 32 allows token i.

        A request that has ended since the pass was launched may sample anything: nobody will read it. A new
        array each time, since the device may still read the last one.
        """
        mask_BW = np.empty((len(a_pass.constrained), self._num_words), dtype=np.int32)
        batch = a_pass.batch
        rows: list[tuple[int, Req]] = []
        for row, index in enumerate(a_pass.constrained):
            if batch.reqs[index].epoch == batch.epochs[index]:
                rows.append((row, batch.reqs[index]))
            else:
                mask_BW[row] = -1
        errors = self._fill_together(mask_BW, rows)
        for row, req in rows:
            error = errors[row] if row in errors else _fill_row(mask_BW, row, req)
            if error is None:
                _hold_back_ends(req, mask_BW[row])
            else:
                mask_BW[row] = -1
                self._finisher.fail(req, error)
        self._roster.sweep()
        return mask_BW

    def _fill_together(
        self, mask_BW: npt.NDArray[np.int32], rows: list[tuple[int, Req]]
    ) -> dict[int, RequestError | None]:
        """Fill what backends fill in one call: row -> what went wrong with it. Threads of the interpreter would not
        pay: a mask takes some 20 us, as long as two of them take to hand it over."""
        if len(rows) < 2 or len(rows) * self._vocab_size < _LEAST_BITS:
            return {}
        groups: dict[MaskBatcher, tuple[list[GrammarMatcher], list[int]]] = {}
        for row, req in rows:
            assert req.matcher is not None
            if (part := req.matcher.in_batch) is not None:
                matchers, places = groups.setdefault(part[0], ([], []))
                matchers.append(part[1])
                places.append(row)
        found: dict[int, RequestError | None] = {}
        for batcher, (matchers, places) in groups.items():
            try:
                errors = batcher.fill(matchers, mask_BW, places, self._num_threads)
            except Exception:
                # One by one it shows whose fault it is.
                log.exception("a grammar backend failed on the masks of %d requests", len(places))
                continue
            found.update(zip(places, errors, strict=True))
        return found


def _fill_row(mask_BW: npt.NDArray[np.int32], row: int, req: Req) -> RequestError | None:
    assert req.matcher is not None
    try:
        req.matcher.fill_bitmask(mask_BW, row)
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
