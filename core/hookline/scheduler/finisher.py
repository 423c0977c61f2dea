"""Finisher: ends a request, wherever it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookline.errors import RequestAbortedError
from hookline.scheduler.outbox import abort_reason
from hookline.scheduler.req import ReqState

if TYPE_CHECKING:
    from hookline.errors import RequestError
    from hookline.messages.outputs import FinishReason
    from hookline.messages.requests import AbortReq
    from hookline.scheduler.adapters import AdapterTable
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.media import MediaHost
    from hookline.scheduler.outbox import Outbox
    from hookline.scheduler.req import Req
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.waits import WaitRoom


class Finisher:
    """The one way out for requests: slots, row, queue place, gates, adapter, media and last message."""

    def __init__(
        self,
        roster: Roster,
        waits: WaitRoom,
        ledger: KVLedger,
        adapters: AdapterTable,
        media: MediaHost,
        outbox: Outbox,
    ) -> None:
        self._roster = roster
        self._waits = waits
        self._ledger = ledger
        self._adapters = adapters
        self._media = media
        self._outbox = outbox

    def finish(self, req: Req, reason: FinishReason, *, keep: bool = True) -> None:
        """End a live request. ``keep`` leaves its KV in the prefix cache.

        A pass of the request may still be in flight: its result is for an older epoch and is dropped.
        """
        assert req.is_alive, f"request {req.rid} ends twice"
        if req.state is ReqState.GATED:
            self._waits.cancel(req)
        self._roster.leave(req)
        req.epoch += 1
        req.finish_reason = reason
        req.state = ReqState.FINISHED
        if req.row is not None:
            if self._waits.hold(req):
                req.state = ReqState.HELD
            else:
                self._ledger.release(req, keep=keep)
        if req.num_unscored:
            # An abort ended it; a part of what was appended would lack its log-probabilities.
            del req.output_ids[-req.num_unscored :]
            req.num_unscored = 0
        if req.lora is not None:
            self._adapters.release(req.lora)
        self._media.release(req)
        self._roster.forget(req)
        self._outbox.add(req)

    def fail(self, req: Req, error: RequestError, *, keep: bool = True) -> None:
        """End a request with an error."""
        self.finish(req, abort_reason(error), keep=keep)

    def abort(self, message: AbortReq) -> None:
        """End the named requests, or all. Ids of requests that have ended already are passed over."""
        rids = [req.rid for req in self._roster] if message.all else message.rids
        for rid in rids:
            req = self._roster.get(rid)
            if req is not None:
                self.fail(req, RequestAbortedError(message.reason))
        self._roster.sweep()

    def release_held(self) -> None:
        """Take back the slots of ended requests that nobody reads any more."""
        for req in self._waits.poll_holds():
            req.state = ReqState.FINISHED
            self._ledger.release(req, keep=True)
