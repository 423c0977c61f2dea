"""LedgerCheck: every slot and row belongs to exactly one party; whoever broke that is named.

Always, idle or busy: free + cached + owned by requests = all, where a request owns its slots in whole pages
beyond its prefix in the cache. Idle is the case without requests.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.media import MediaHost
    from hookline.scheduler.req import Req
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.stats import Counters
    from hookline.scheduler.waits import WaitRoom

log = logging.getLogger(__name__)


class LedgerCheck:
    """Verifies the ledger; slow. It remembers who had each page last, to name who lost it."""

    def __init__(self, roster: Roster, waits: WaitRoom, ledger: KVLedger, media: MediaHost, counters: Counters) -> None:
        self._roster = roster
        self._media = media
        self._waits = waits
        self._ledger = ledger
        self._counters = counters
        self._last_owner: dict[int, str] = {}

    def run(self) -> None:
        """Log and count a violation. Never raises: a server with a leak serves on."""
        try:
            self.verify()
        except AssertionError as error:
            self._counters.ledger_violations += 1
            log.error("the ledger is violated: %s", error)

    def verify(self) -> None:
        """``AssertionError`` naming the culprit if anything is wrong."""
        holders = [*self._roster.holders, *self._waits.held]
        self._check_rows(holders)
        self._check_columns()
        self._check_pages(holders)
        self._ledger.cache.check()
        self._media.check()

    def _check_rows(self, holders: list[Req]) -> None:
        owner: dict[int, str] = {}
        for req in holders:
            if req.row is None or req.node is None:
                raise AssertionError(f"request {req.rid} ({req.state.value}) holds no row")
            if req.row in owner:
                raise AssertionError(f"row {req.row} is held by requests {owner[req.row]} and {req.rid}")
            owner[req.row] = req.rid
        for req in self._roster.waiting:
            if req.row is not None or req.node is not None or req.seq_len:
                raise AssertionError(f"request {req.rid} waits but holds row {req.row}")
        pool = self._ledger.pool
        if len(owner) + pool.num_free != pool.num_rows:
            raise AssertionError(
                f"{pool.num_rows} rows, but {pool.num_free} are free and {len(owner)} held by {sorted(owner.values())}"
            )

    def _check_columns(self) -> None:
        running = self._roster.running
        for i, req in enumerate(running.reqs):
            if (running.rows[i], running.seq_lens[i]) != (req.row, req.seq_len):
                raise AssertionError(
                    f"the running batch says row {running.rows[i]}, length {running.seq_lens[i]} of request {req.rid}, "
                    f"which says row {req.row}, length {req.seq_len}"
                )

    def _check_pages(self, holders: list[Req]) -> None:
        ledger = self._ledger
        size = ledger.page_size
        owner: dict[int, str] = {}
        parties = [("the free list", ledger.allocator.free_pages), ("the prefix cache", self._cached_pages())]
        parties += [(f"request {req.rid}", self._owned_pages(req)) for req in holders]
        for party, pages in parties:
            for page in pages.tolist():
                if page in owner:
                    raise AssertionError(f"page {page} (slot {page * size}) belongs to {owner[page]} and to {party}")
                owner[page] = party
        if len(owner) != ledger.allocator.num_pages:
            lost = [page for page in range(1, ledger.allocator.num_pages + 1) if page not in owner]
            culprits = sorted({self._last_owner.get(page, "an unknown party") for page in lost})
            raise AssertionError(
                f"{len(lost)} pages belong to nobody ({', '.join(map(str, lost[:8]))}); "
                f"last held by {', '.join(culprits)}"
            )
        self._last_owner = owner

    def _cached_pages(self) -> npt.NDArray[np.int64]:
        return np.unique(self._ledger.cache.owned_slots() // self._ledger.page_size)

    def _owned_pages(self, req: Req) -> npt.NDArray[np.int64]:
        row = self._ledger.pool.table[req.row, req.num_protected : req.seq_len]
        pages = np.unique(row.astype(np.int64) // self._ledger.page_size)
        if len(pages) * self._ledger.page_size != req.num_owned_slots:
            raise AssertionError(
                f"request {req.rid} should own {req.num_owned_slots} slots beyond its {req.num_protected} cached "
                f"ones, but its row names {len(pages)} pages"
            )
        return pages
