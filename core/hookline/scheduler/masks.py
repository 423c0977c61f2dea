"""MaskFiller: which tokens the constrained requests of a pass may sample."""

from __future__ import annotations

import logging
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


class MaskFiller:
    """Fills bitmasks. Call it when all tokens sampled before the pass were accepted by their grammars."""

    def __init__(self, vocab_size: int, roster: Roster, finisher: Finisher) -> None:
        self._num_words = -(-vocab_size // 32)
        self._roster = roster
        self._finisher = finisher

    def fill(self, a_pass: Pass) -> npt.NDArray[np.int32]:
        """int32 [constrained, ceil(V / 32)]; bit i % 32 of word i // 32 allows token i.

        A request that has ended since the pass was launched may sample anything: nobody will read it. A new
        array each time, since the device may still read the last one.
        """
        mask_BW = np.full((len(a_pass.constrained), self._num_words), -1, dtype=np.int32)
        for row, index in enumerate(a_pass.constrained):
            req = a_pass.batch.reqs[index]
            if req.epoch != a_pass.batch.epochs[index]:
                continue
            assert req.matcher is not None
            try:
                req.matcher.fill_bitmask(mask_BW, row)
                _hold_back_ends(req, mask_BW[row])
            except RequestError as error:
                mask_BW[row] = -1
                self._finisher.fail(req, error)
            except Exception as error:
                log.exception("the grammar of request %s failed", req.rid)
                mask_BW[row] = -1
                message = f"the grammar failed on the output so far: {type(error).__name__}: {error}"
                self._finisher.fail(req, RequestError(message, code="grammar_failed", status_code=500))
        self._roster.sweep()
        return mask_BW


def _hold_back_ends(req: Req, mask_W: npt.NDArray[np.int32]) -> None:
    """Forbid the end tokens before ``min_new_tokens``, unless the grammar allows nothing else any more."""
    if len(req.output_ids) >= req.params.min_new_tokens:
        return
    held_W = mask_W.view(np.uint32).copy()
    for token_id in req.end_ids:
        held_W[token_id // 32] &= np.uint32(0xFFFFFFFF ^ (1 << token_id % 32))
    if held_W.any():
        mask_W[:] = held_W.view(np.int32)
