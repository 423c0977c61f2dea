"""Media: pictures and clips in the scheduler, from their arrival until their rows are in the KV cache.

A new request with media waits behind a gate until the encoder has been told of all that it needs. Each turn of the
loop hands the encoder a bounded amount of work, from as many requests as there are, so that those that decode go on in
between. Rows are kept for a request until its prompt is computed. What a pass needs and is not there (because a
retracted request comes back) is encoded right before it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hookline.batch.encoder_orders import EncoderOrders, MediaRun
from hookline.cache.placeholder_ids import MAX_ROWS
from hookline.errors import RequestError
from hookline.interfaces.multimodal import EncoderItem
from hookline.messages.segments import Segments
from hookline.scheduler.req_media import ReqMedia, keyed_ids, positions_of, spans_of
from hookline.scheduler.waits import Gate

if TYPE_CHECKING:
    from hookline.cache.embedding_cache import EmbeddingCache
    from hookline.cache.placeholder_ids import PlaceholderIds
    from hookline.interfaces.worker import Worker
    from hookline.messages.requests import MediaItem
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.req import Req
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.schedule_batch import Pass
    from hookline.scheduler.stats import Counters


class _Queued(Gate):
    """A request whose media are not all on their way yet."""

    def __init__(self, req: Req) -> None:
        self.req = req
        self.is_open = False
        #: Items that it still needs, once it has come to its turn.
        self.needed: deque[EncoderItem] | None = None

    def poll(self) -> bool:
        return self.is_open


class MediaHost:
    """Takes in media, has them encoded in portions, and knows where their rows go."""

    def __init__(
        self,
        worker: Worker,
        roster: Roster,
        ledger: KVLedger,
        cache: EmbeddingCache,
        ids: PlaceholderIds,
        counters: Counters,
        *,
        patch_budget: int,
    ) -> None:
        """``patch_budget``: encoder work of one turn of the loop; an item that is larger runs alone."""
        self._worker = worker
        self._roster = roster
        self._ledger = ledger
        self._cache = cache
        self._ids = ids
        self._counters = counters
        self._patch_budget = patch_budget
        self._queue: deque[_Queued] = deque()
        #: Whether those that decode got a token since the encoder's last portion.
        self._has_decoded = True

    # --- requests come and go ---

    def attach(self, req: Req) -> None:
        """Open the media of a new request; ``RequestError`` if they are no good, and nothing has changed then."""
        inputs = req.request.multimodal
        if inputs is None or not inputs.items:
            return
        info = self._worker.info
        if not info.embedding_row_bytes:
            raise RequestError("this model takes text only; send no pictures or other media", param="messages")
        num_tokens = req.num_prompt_tokens
        spans = spans_of(inputs, num_tokens)
        positions = positions_of(inputs, num_tokens, info.position_planes, info.max_context_len)
        segments = Segments()
        try:
            items = [_encoder_item(item, segments) for item in inputs.items]
        except (OSError, ValueError, TypeError) as error:
            segments.close()
            message = f"the media of the request cannot be read: {type(error).__name__}: {error}"
            raise RequestError(message, code="internal_error", status_code=500) from error
        if self._ids.is_full:
            live = [item.digest for req in self._roster if req.media is not None for item in req.media.items]
            self._ids.sweep(self._ledger.cache.token_ids(), live)
        media = ReqMedia(
            items=items,
            spans=spans,
            positions=positions,
            position_delta=inputs.position_delta,
            segments=segments,
            pinned=[],
        )
        self._take_keys(req, media)

    def gate(self, req: Req) -> Gate | None:
        """What a new request waits for; a ``GateSource``."""
        if req.media is None:
            return None
        queued = _Queued(req)
        self._queue.append(queued)
        return queued

    def release(self, req: Req) -> None:
        """A request has ended: nobody reads its media any more."""
        if req.media is not None:
            self._unpin(req.media)
            req.media.segments.close()

    def failed(self, faults: Mapping[bytes, str], step: int) -> list[tuple[Req, str]]:
        """Items could not be encoded, which pass ``step`` found out; gives the requests that end, and why.

        The pass's prefixes were open to others from its launch on. So all end that computed some of a prompt with such
        an item since; whoever comes later gets other ids, and does not find those prefixes.
        """
        if not faults:
            return []
        self._forget(set(faults))
        for digest in faults:
            self._ids.renew(digest)
        ended = []
        for req in self._roster:
            found = [item.digest for item in req.media.items if item.digest in faults] if req.media else []
            if req.media is None or not found:
                continue
            if req.row is None:
                self._take_keys(req, req.media)
            elif req.media.last_prefill >= step:
                ended.append((req, faults[found[0]]))
        return ended

    def reset(self) -> None:
        """Forget all rows, as after new weights; what is still needed is encoded again."""
        self._forget(set(self._cache.digests))
        self._send([])

    def check(self) -> None:
        """Verify the books of the encoder's rows; ``AssertionError`` says what is wrong. Slow."""
        held = Counter(digest for req in self._roster if req.media is not None for digest in req.media.pinned)
        self._cache.check(held)

    # --- the encoder ---

    def encode_some(self) -> bool:
        """Hand the encoder its work for this turn; returns whether there was any.

        Between two portions those that decode get a token, also when prompts are there to be computed.
        """
        if not self._has_decoded and len(self._roster.running):
            return False
        budget = self._patch_budget
        batch: list[EncoderItem] = []
        while self._queue:
            queued = self._queue[0]
            # One that has ended meanwhile, or was never let in, is passed over.
            if self._roster.get(queued.req.rid) is queued.req:
                needed = self._needed(queued)
                while needed:
                    item = needed[0]
                    if item.digest in self._cache:
                        self._pin(queued.req, item)
                    elif not self._has_room(queued.req, item) or (batch and item.cost > budget):
                        break
                    else:
                        self._add(queued.req, item)
                        batch.append(item)
                        budget -= item.cost
                    needed.popleft()
                if needed:
                    break
                queued.is_open = True
            self._queue.popleft()
        self._send(batch)
        if batch:
            self._has_decoded = False
        return bool(batch)

    def before(self, planned: Pass) -> list[MediaRun]:
        """Have encoded what a pass needs and is not there; gives the rows that the pass places."""
        extends = [(i, req) for i, req in enumerate(planned.batch.reqs[: planned.num_extends]) if req.media is not None]
        if not extends:
            return []
        missing: list[EncoderItem] = []
        runs: list[MediaRun] = []
        starts = np.cumsum(planned.batch.seq_lens - planned.batch.prefix_lens)
        for i, req in extends:
            assert req.media is not None
            req.media.last_prefill = planned.step
            start, end = int(planned.batch.prefix_lens[i]), int(planned.batch.seq_lens[i])
            offset = int(starts[i]) - end
            for item in req.media.needed(start, end):
                if item.digest not in self._cache:
                    self._add(req, item)
                    missing.append(item)
                elif item.digest not in req.media.pinned:
                    self._pin(req, item)
            runs += [
                MediaRun(digest=item.digest, first_row=row, num_rows=count, place=offset + first)
                for item, row, count, first in req.media.runs(start, end)
            ]
        self._send(missing)
        return runs

    def after(self, planned: Pass) -> None:
        """A pass was launched: requests whose prompts are computed need their rows no longer."""
        self._has_decoded |= planned.num_extends < len(planned.batch)
        for req in planned.batch.reqs[: planned.num_extends]:
            if req.media is not None and not req.num_pending_prefill:
                self._unpin(req.media)

    # --- parts ---

    def _needed(self, queued: _Queued) -> deque[EncoderItem]:
        """The items that are not wholly in the cached prefix, asked for when the request comes to its turn."""
        if queued.needed is None:
            media = queued.req.media
            assert media is not None
            cached = self._ledger.match(queued.req).num_tokens
            items = media.needed(cached, queued.req.num_tokens)
            media.num_reused = len(media.items) - len(items)
            self._counters.media_items += len(media.items)
            self._counters.media_reused += media.num_reused
            queued.needed = deque(items)
        return queued.needed

    def _has_room(self, req: Req, item: EncoderItem) -> bool:
        """Whether the item's rows fit beside those that others wait for; whoever waits alone always goes on."""
        assert req.media is not None
        pinned = self._cache.pinned_bytes
        own = sum(known.num_rows for known in req.media.items if known.digest in req.media.pinned)
        if pinned <= own * self._worker.info.embedding_row_bytes:
            return True
        return pinned + self._bytes(item) <= self._cache.capacity

    def _take_keys(self, req: Req, media: ReqMedia) -> None:
        rows = [self._ids.rows(item.digest, item.num_rows) for item in media.items]
        req.take_media(media, keyed_ids(req.prompt_ids, media.spans, rows))

    def _bytes(self, item: EncoderItem) -> int:
        return item.num_rows * self._worker.info.embedding_row_bytes

    def _add(self, req: Req, item: EncoderItem) -> None:
        assert req.media is not None
        self._cache.add(item.digest, self._bytes(item))
        req.media.pinned.append(item.digest)
        self._counters.media_encoded += 1
        self._counters.encoder_patches += item.cost

    def _pin(self, req: Req, item: EncoderItem) -> None:
        assert req.media is not None
        self._cache.pin(item.digest)
        req.media.pinned.append(item.digest)
        if req.row is None:
            req.media.num_reused += 1
            self._counters.media_reused += 1

    def _unpin(self, media: ReqMedia) -> None:
        for digest in media.pinned:
            self._cache.unpin(digest)
        media.pinned.clear()

    def _forget(self, digests: set[bytes]) -> None:
        for digest in digests:
            self._cache.forget(digest)
        # Their pins are gone with them, and must not be undone once more.
        for req in self._roster:
            if req.media is not None:
                req.media.pinned = [digest for digest in req.media.pinned if digest not in digests]

    def _send(self, encode: list[EncoderItem]) -> None:
        offload, drop, new = self._cache.take_orders()
        assert [item.digest for item in encode] == new
        if offload or drop or encode:
            self._worker.encode(EncoderOrders(offload=offload, drop=drop, encode=encode))


def _encoder_item(item: MediaItem, segments: Segments) -> EncoderItem:
    if item.num_rows >= MAX_ROWS:
        raise ValueError(f"an item has {item.num_rows} rows, at most {MAX_ROWS - 1} are possible")
    return EncoderItem(
        kind=item.kind,
        digest=item.digest,
        tensors={tensor.name: segments.array(tensor) for tensor in item.tensors},
        grid=tuple(item.grid),
        num_rows=item.num_rows,
        cost=item.cost,
    )
