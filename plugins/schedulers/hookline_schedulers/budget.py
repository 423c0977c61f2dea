"""PrefillBudget: how many tokens the prefills of one pass may take."""

from __future__ import annotations

from enum import Enum

from hookline.interfaces.scheduling import PrefillItem, PrefixMatch, RunningReq, SchedulerEnv, SchedulerView, WaitingReq

#: No request is expected to generate more than this, whatever it is allowed. Only an estimate.
_MAX_EXPECTED_OUTPUT = 4096


class Verdict(Enum):
    """Whether a waiting request was admitted."""

    ADMITTED = "admitted"
    #: The KV cache is too full, also for anybody after this one.
    NO_SLOTS = "no slots"
    #: The pass is full; the next one may take the request.
    PASS_FULL = "pass full"


class PrefillBudget:
    """Counts what the pass takes. All in tokens.

    ``rem_total`` is what is left when all running requests had the output that is expected of them;
    ``rem_slots`` what is left right now; ``rem_input`` and ``rem_chunk`` bound the work of the pass.
    """

    def __init__(self, view: SchedulerView, env: SchedulerEnv, ratio: float, *, num_decodes: int) -> None:
        self._page_size = view.page_size
        self._ratio = ratio
        decode_slots = view.decode_slots_needed() if num_decodes else 0
        self.rem_slots = view.num_free_slots + view.num_evictable_slots - decode_slots
        self.rem_total = self.rem_slots - sum(_expected(req, ratio) for req in view.running)
        self.rem_input = env.max_prefill_tokens - num_decodes
        # However many decode along, a prefill must get on.
        chunk = env.chunked_prefill_size
        self.rem_chunk = None if chunk is None else max(chunk - num_decodes, view.page_size)
        self.items: list[PrefillItem] = []
        self._counted_nodes: set[int] = set()
        self._is_chunk_taken = view.chunked is not None

    def resume(self, req: RunningReq) -> None:
        """The next chunk of the request whose prefill is under way; nothing if running requests need the slots."""
        pending = req.num_pending_prefill
        # The page that the last chunk began is the request's already.
        begun = -req.seq_len % self._page_size
        new_len = min(pending, begun + max(min(self.rem_total, self.rem_slots), 0))
        if self.rem_chunk is not None:
            new_len = min(new_len, self.rem_chunk)
        if new_len <= 0:
            return
        is_last = new_len == pending
        slots = self._whole_pages(new_len - begun)
        output = _left(req) if is_last else 0
        self._take(req.rid, new_len, slots, output)
        self._is_chunk_taken = not is_last

    def admit(self, req: WaitingReq, match: PrefixMatch, *, is_alone: bool) -> Verdict:
        """Admit a waiting request, whole or its first chunk.

        One that is alone in the engine need not leave room for its whole output, and may be longer than the
        input budget: waiting longer would not help it.
        """
        extend = req.num_tokens - match.num_cached_tokens
        slots, output, locked = self._whole_pages(extend), _left(req), self._locked_by(match)
        if not is_alone and slots + output + locked >= self.rem_total:
            return Verdict.NO_SLOTS
        if self.items and slots >= self.rem_input:
            return Verdict.PASS_FULL
        new_len = extend
        if self.rem_chunk is not None and extend > self.rem_chunk:
            if self._is_chunk_taken:
                return Verdict.PASS_FULL
            new_len = self.rem_chunk - self.rem_chunk % self._page_size
            if new_len <= 0:
                return Verdict.PASS_FULL
            slots, output = self._whole_pages(new_len), 0
        if slots + locked > self.rem_slots:
            return Verdict.NO_SLOTS
        self._is_chunk_taken = self._is_chunk_taken or new_len < extend
        self._counted_nodes.update(match.unlocked)
        self.rem_total -= locked
        self.rem_slots -= locked
        self._take(req.rid, new_len, slots, output)
        return Verdict.ADMITTED

    def missing(self, req: WaitingReq, match: PrefixMatch) -> int:
        """Tokens by which ``rem_total`` is too small for a waiting request; 0 if it is not."""
        slots = self._whole_pages(req.num_tokens - match.num_cached_tokens)
        return max(slots + _left(req) + self._locked_by(match) + 1 - self.rem_total, 0)

    def gain(self, req: RunningReq) -> int:
        """What retracting a running request adds to ``rem_total``."""
        return req.num_owned_slots + _expected(req, self._ratio)

    def give_back(self, req: RunningReq) -> None:
        """A running request will be retracted for others."""
        self.rem_slots += req.num_owned_slots
        self.rem_total += self.gain(req)

    @property
    def is_spent(self) -> bool:
        """Whether the pass has no room for another request."""
        if self.rem_slots <= 0 or self.rem_input <= 0:
            return True
        return self.rem_chunk is not None and self.rem_chunk <= 0

    def _take(self, rid: str, new_len: int, slots: int, output: int) -> None:
        self.items.append(PrefillItem(rid=rid, num_tokens=new_len))
        self.rem_total -= slots + output
        self.rem_slots -= slots
        self.rem_input -= slots
        if self.rem_chunk is not None:
            self.rem_chunk -= new_len

    def _locked_by(self, match: PrefixMatch) -> int:
        """Cached tokens that admission locks, so that they can no longer be evicted. A node that an earlier
        admission of the pass locks counts once."""
        return sum(size for node, size in match.unlocked.items() if node not in self._counted_nodes)

    def _whole_pages(self, num_tokens: int) -> int:
        return -(-max(num_tokens, 0) // self._page_size) * self._page_size


def _left(req: WaitingReq) -> int:
    """Output that a request is expected to have at most from now on."""
    return min(req.max_new_tokens - req.num_output_tokens, _MAX_EXPECTED_OUTPUT)


def _expected(req: RunningReq, ratio: float) -> int:
    """Output that a running request will still need slots for. One that ignores EOS takes all it may."""
    return _left(req) if req.ignore_eos else int(_left(req) * ratio)
