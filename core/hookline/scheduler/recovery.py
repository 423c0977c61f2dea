"""Recovery: what becomes of a pass for which the device had no memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hookline.errors import RequestError

if TYPE_CHECKING:
    from hookline.scheduler.execution import Execution
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.req import Req
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.schedule_batch import Pass

log = logging.getLogger(__name__)


class Recovery:
    """One request fails, all others that hold a row wait again and compute their KV anew.

    What the pass was to write was handed to the prefix cache when it was launched, and the pass after it, which is
    launched already, builds on it; so nothing of either is kept, and nothing that is cached is trusted.
    """

    def __init__(self, roster: Roster, ledger: KVLedger, execution: Execution, finisher: Finisher) -> None:
        self._roster = roster
        self._ledger = ledger
        self._execution = execution
        self._finisher = finisher
        #: The pass launched last when there was a recovery: passes up to it were given up then.
        self._settled_step = -1

    def recover(self, a_pass: Pass, what: str) -> int:
        """Give up a pass that failed with ``what``; returns how many requests wait again."""
        if a_pass.step <= self._settled_step:
            return 0
        self._settled_step = self._execution.last_step
        victim = self._victim(a_pass)
        if victim is not None:
            self._finisher.fail(victim, _error(a_pass, what), keep=False)
            self._roster.sweep()
        holders = self._roster.holders
        for req in holders:
            self._execution.retract(req, keep=False)
        self._roster.sweep()
        self._ledger.cache.evict(self._ledger.cache.num_evictable)
        name = "no request" if victim is None else f"request {victim.rid}"
        log.error(
            "a pass of %d requests ran out of device memory: %s fails, %d others start again (%s)",
            len(a_pass.batch), name, len(holders), what,
        )  # fmt: skip
        return len(holders)

    def _victim(self, a_pass: Pass) -> Req | None:
        """Of those that are still in the pass the one with the most tokens in it, then the youngest."""
        batch = a_pass.batch
        counts = (batch.seq_lens - batch.prefix_lens).tolist()
        found = [
            (count, req.arrival, req)
            for req, epoch, count in zip(batch.reqs, batch.epochs, counts, strict=True)
            if req.epoch == epoch
        ]
        return max(found, key=lambda entry: entry[:2])[2] if found else None


def _error(a_pass: Pass, what: str) -> RequestError:
    return RequestError(
        f"the device ran out of memory in a pass of {len(a_pass.batch)} requests, of which this one was the largest: "
        f"{what}; send less at a time, or start the server with a smaller schedule.max_prefill_tokens, "
        "schedule.max_running_requests or cache.memory_fraction",
        code="out_of_memory",
        status_code=503,
    )
