"""Roster: all live requests and where each stands."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hookline.scheduler.req import ReqState
from hookline.scheduler.schedule_batch import ScheduleBatch

if TYPE_CHECKING:
    from hookline.scheduler.req import Req


def _arrival(req: Req) -> int:
    return req.arrival


class Roster:
    """Who waits, who is in a chunked prefill, who runs, who finishes.

    Gated requests are known by id only; ``WaitRoom`` keeps them until they may join the queue.
    """

    def __init__(self) -> None:
        self._by_rid: dict[str, Req] = {}
        #: In order of arrival.
        self.waiting: list[Req] = []
        self.chunked: Req | None = None
        #: Requests that decode, oldest first.
        self.running = ScheduleBatch.of([])
        #: Requests whose last token is being computed.
        self.finishing: list[Req] = []
        self._has_leavers = False

    def __contains__(self, rid: str) -> bool:
        return rid in self._by_rid

    def __len__(self) -> int:
        return len(self._by_rid)

    def __iter__(self) -> Iterator[Req]:
        return iter(list(self._by_rid.values()))

    def get(self, rid: str) -> Req | None:
        """The live request of exactly that id."""
        return self._by_rid.get(rid)

    def add(self, req: Req) -> None:
        """A new request; it waits outside the queue until ``enqueue``."""
        self._by_rid[req.rid] = req
        req.state = ReqState.GATED

    def enqueue(self, req: Req) -> None:
        """Into the waiting queue: new, its gates open, or retracted."""
        req.state = ReqState.WAITING
        insort(self.waiting, req, key=_arrival)

    def begin(self, req: Req) -> None:
        """A waiting request was given a row."""
        self._dequeue(req)

    def computed(self, reqs: list[Req]) -> None:
        """Place requests whose prefill pass was launched by what is left to do for them."""
        runs = []
        for req in reqs:
            if req is self.chunked:
                self.chunked = None
            if req.num_pending_prefill:
                req.state = ReqState.CHUNKED
                self.chunked = req
            elif req.seq_len >= req.end_len:
                req.state = ReqState.FINISHING
                self.finishing.append(req)
            else:
                req.state = ReqState.RUNNING
                runs.append(req)
        if runs:
            self.running.merge(ScheduleBatch.of(runs))

    def decoded(self) -> None:
        """After a decode was launched: requests that sample their last allowed token get no further pass."""
        last = self.running.seq_lens >= self.running.end_lens
        if last.any():
            for i in np.flatnonzero(last).tolist():
                req = self.running.reqs[i]
                req.state = ReqState.FINISHING
                self.finishing.append(req)
            self.running.filter(~last)

    def leave(self, req: Req) -> None:
        """Take a request out of where it stands; it stays known until ``forget``."""
        match req.state:
            case ReqState.WAITING:
                self._dequeue(req)
            case ReqState.CHUNKED:
                self.chunked = None
            case ReqState.RUNNING:
                self._has_leavers = True
            case ReqState.FINISHING:
                self.finishing.remove(req)
            case _:
                pass

    def _dequeue(self, req: Req) -> None:
        place = bisect_left(self.waiting, req.arrival, key=_arrival)
        assert self.waiting[place] is req
        del self.waiting[place]

    def forget(self, req: Req) -> None:
        """The request has ended."""
        del self._by_rid[req.rid]

    def sweep(self) -> None:
        """Drop from the running batch whoever left it; several may leave in one pass."""
        if self._has_leavers:
            self._has_leavers = False
            stays = (req.state is ReqState.RUNNING for req in self.running.reqs)
            self.running.filter(np.fromiter(stays, dtype=np.bool_, count=len(self.running)))

    @property
    def num_running(self) -> int:
        """Requests that hold a row and have not ended."""
        return len(self.running) + len(self.finishing) + (self.chunked is not None)

    @property
    def holders(self) -> list[Req]:
        """Requests that hold a row and have not ended."""
        chunked = [self.chunked] if self.chunked is not None else []
        return [*self.running.reqs, *self.finishing, *chunked]
