"""FakeWorker: a device that computes nothing until somebody waits for it, and that trusts nobody.

Its numbers are those of ``hookline.testkit.fake_tokens``. A slot that was given to somebody else too early holds the
wrong hash, which the next pass over it reports. A pass may only place rows of media whose items were ordered to be
encoded before.

Shape letters: B requests, T tokens of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hookline.batch.encoder_orders import EncoderOrders
from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import LogprobSpec, ModelWorkerBatch, SamplingRow
from hookline.interfaces.worker import StepResult, TokenLogprobs, WorkerInfo
from hookline.testkit.fake_tokens import next_hash, pick, row_token, start_hash, token_logprob


@dataclass
class _Row:
    """What the device knows of the request in a row: all its tokens, and their hashes."""

    rid: str
    sampling: SamplingRow
    adapter: int
    tokens: list[int]
    hashes: list[int] = field(default_factory=list)
    num_fed: int = 0


class FakeStep:
    """A launched pass."""

    def __init__(self, worker: FakeWorker, batch: ModelWorkerBatch) -> None:
        self._worker = worker
        self.batch = batch
        self.mask: npt.NDArray[np.int32] | None = None
        self.is_sampled = not batch.constrained
        self.answer: StepResult | None = None
        self.was_read = False
        #: A pass before it was given up after it was launched.
        self.is_spoilt = False

    def sample(self, bitmask_BW: npt.NDArray[np.int32] | None = None) -> None:
        assert self.batch.constrained, "a pass without constrained requests is sampled by launch"
        assert not self.is_sampled, "sampled twice"
        assert bitmask_BW is not None
        assert bitmask_BW.shape == (len(self.batch.constrained), -(-self._worker.info.vocab_size // 32))
        self.mask = bitmask_BW
        self.is_sampled = True
        self._worker.events.append(("sample", self.batch.step))

    def result(self) -> StepResult:
        assert not self.was_read, "a result is read once"
        self.was_read = True
        self._worker.events.append(("read", self.batch.step))
        return self._worker.run_until(self)


class FakeWorker:
    """Satisfies ``Worker``. Passes run in the order of their launch, when the first of them is waited for."""

    def __init__(
        self,
        *,
        max_total_tokens: int = 4096,
        max_running_requests: int = 32,
        max_context_len: int = 512,
        page_size: int = 1,
        vocab_size: int = 97,
        position_planes: int = 1,
        embedding_row_bytes: int = 0,
        embedding_cache_bytes: int = 0,
        embedding_host_bytes: int = 0,
    ) -> None:
        self.info = WorkerInfo(
            max_total_tokens=max_total_tokens,
            max_running_requests=max_running_requests,
            max_context_len=max_context_len,
            page_size=page_size,
            vocab_size=vocab_size,
            position_planes=position_planes,
            memory_ledger={"weights": 1, "kv": 2, "activations": 3, "rest": 4},
            embedding_row_bytes=embedding_row_bytes,
            embedding_cache_bytes=embedding_cache_bytes,
            embedding_host_bytes=embedding_host_bytes,
        )
        #: ("launch" | "sample" | "read", pass) in the order of the calls.
        self.events: list[tuple[str, int]] = []
        self.batches: list[ModelWorkerBatch] = []
        #: Requests whose logits are not finite, from this output token on.
        self.faults: dict[str, int] = {}
        #: Passes that the device has no memory for.
        self.out_of_memory: set[int] = set()
        #: Request -> (digest, its runs (start, length) in the prompt) of each item that passes must place.
        self.media: dict[str, Sequence[tuple[bytes, Sequence[tuple[int, int]]]]] = {}
        #: Request -> [P, prompt] positions, where they do not count tokens.
        self.positions: dict[str, npt.NDArray[np.int64]] = {}
        #: All that came to be encoded, in order, and the digests that have rows on the device and on the host.
        self.orders: list[EncoderOrders] = []
        self.on_device: set[bytes] = set()
        self.on_host: set[bytes] = set()
        #: Digests of items that the encoder fails for.
        self.bad_media: set[bytes] = set()
        self.adapters: dict[int, str] = {}
        self.weights = 0
        self.released: set[str] = set()
        self.broken_weights = False
        #: Called with each batch when it is launched.
        self.on_launch: Callable[[ModelWorkerBatch], None] = lambda batch: None
        self._pending: list[FakeStep] = []
        self._rows: dict[int, _Row] = {}
        self._table = np.zeros((max_running_requests, max_context_len), dtype=np.int64)
        self._kv = np.zeros(max_total_tokens + page_size, dtype=np.uint64)

    # --- the Worker interface ---

    def launch(self, batch: ModelWorkerBatch) -> FakeStep:
        assert not self.released, "a pass was launched without memory"
        assert all(step.is_sampled for step in self._pending), "the pass before was never sampled"
        self.events.append(("launch", batch.step))
        self.batches.append(batch)
        self.on_launch(batch)
        for run in batch.media:
            assert run.digest in self.on_device | self.on_host, "a pass places rows that are not there"
        step = FakeStep(self, batch)
        # By reference: whoever changes an array of a launched batch changes what the device reads.
        self._pending.append(step)
        return step

    def encode(self, orders: EncoderOrders) -> None:
        assert not self.released, "the encoder was asked without memory"
        self.orders.append(orders)
        for digest in orders.offload:
            self.on_device.remove(digest)
            self.on_host.add(digest)
        for digest in orders.drop:
            (self.on_host if digest in self.on_host else self.on_device).remove(digest)
        for item in orders.encode:
            assert item.digest not in self.on_device | self.on_host, "an item is encoded although its rows are there"
            self.on_device.add(item.digest)

    @property
    def encoded(self) -> list[bytes]:
        """Digests in the order in which they were encoded."""
        return [item.digest for orders in self.orders for item in orders.encode]

    def load_adapter(self, slot: int, name: str, path: Path) -> None:
        assert slot not in self.adapters
        self.adapters[slot] = name

    def unload_adapter(self, slot: int) -> None:
        del self.adapters[slot]

    def update_weights(self, path: Path) -> None:
        assert not self._pending, "weights were changed under a running pass"
        if self.broken_weights:
            raise ValueError(f"no weights in {path}")
        self.weights += 1

    def release_memory(self, tags: Iterable[str]) -> None:
        assert not self._pending
        self.released.update(tags)
        self._kv[:] = 0

    def resume_memory(self, tags: Iterable[str]) -> None:
        self.released.difference_update(tags)

    def close(self) -> None:
        pass

    # --- the device ---

    def run_until(self, step: FakeStep) -> StepResult:
        """Compute all passes up to and with this one."""
        while step.answer is None:
            first = self._pending.pop(0)
            first.answer = self._compute(first)
        return step.answer

    def _compute(self, step: FakeStep) -> StepResult:
        batch = step.batch
        assert step.is_sampled, "the pass was never sampled"
        self._check_shapes(batch)
        self._apply(batch)
        if batch.step in self.out_of_memory:
            # What was launched behind it reads what is not there; nobody may look at that either. Passes that were
            # launched when the failure was known are sound again.
            if not step.is_spoilt:
                for later in self._pending:
                    later.is_spoilt = True
            return StepResult(token_ids=[[] for _ in batch.rids], out_of_memory="no memory for the pass")
        if step.is_spoilt:
            return StepResult(token_ids=[[0] if samples else [] for samples in batch.samples])
        self._forward(batch)
        return self._sample(batch, step.mask)

    def _check_shapes(self, batch: ModelWorkerBatch) -> None:
        size = batch.batch_size
        counts = batch.seq_lens - batch.prefix_lens
        assert size > 0
        for column in (batch.req_pool_indices, batch.seq_lens, batch.prefix_lens, batch.samples):
            assert len(column) == size
        assert (counts > 0).all()
        assert int(counts.sum()) == batch.num_tokens == len(batch.out_cache_loc)
        assert batch.positions.shape == (self.info.position_planes, batch.num_tokens)
        lens = zip(batch.rids, batch.prefix_lens.tolist(), batch.seq_lens.tolist(), strict=True)
        expected = np.concatenate([self._positions(*entry) for entry in lens], axis=1)
        assert (batch.positions == expected).all()
        assert batch.seq_lens.max() <= self.info.max_context_len
        if batch.mode is ForwardMode.DECODE:
            assert (counts == 1).all()
            assert len(batch.future_index) == size
        assert len(np.unique(batch.req_pool_indices)) == size
        assert len(np.unique(batch.out_cache_loc)) == batch.num_tokens, "a slot is written twice in one pass"
        assert batch.out_cache_loc.min() >= self.info.page_size, "the sink belongs to nobody"
        for optional in (batch.adapters, batch.logprobs, batch.pooling):
            assert optional is None or len(optional) == size

    def _positions(self, rid: str, start: int, end: int) -> npt.NDArray[np.int64]:
        """[P, end - start] where the tokens of a request stand."""
        counted = np.tile(np.arange(start, end), (self.info.position_planes, 1))
        known = self.positions.get(rid)
        if known is None:
            return counted
        delta = known.max() + 1 - known.shape[1]
        return np.concatenate([known[:, start:end], counted[:, max(known.shape[1] - start, 0) :] + delta], axis=1)

    def _apply(self, batch: ModelWorkerBatch) -> None:
        for row in batch.freed_rows:
            self._rows.pop(row, None)
        new = {sampling.row: sampling for sampling in batch.new_rows}
        assert len(new) == len(batch.new_rows)
        for i, row in enumerate(batch.req_pool_indices.tolist()):
            if row in new:
                sampling = new.pop(row)
                tokens = [*sampling.prompt_ids, *sampling.output_ids]
                for digest, runs in self.media.get(batch.rids[i], ()):
                    rows = 0
                    for first, length in runs:
                        tokens[first : first + length] = [row_token(digest, rows + k) for k in range(length)]
                        rows += length
                adapter = batch.adapters[i] if batch.adapters else 0
                self._rows[row] = _Row(batch.rids[i], sampling, adapter, tokens)
        assert not new, "sampling rows of requests that are not in the pass"
        places = list(zip(batch.table_rows.tolist(), batch.table_cols.tolist(), strict=True))
        assert len(set(places)) == len(places), "a table entry is written twice"
        self._table[batch.table_rows, batch.table_cols] = batch.table_slots

    def _forward(self, batch: ModelWorkerBatch) -> None:
        input_ids = batch.input_ids.copy()
        future = dict(zip(batch.future_index.tolist(), batch.future_rows.tolist(), strict=True))
        for place, row in future.items():
            assert input_ids[place] == 0, "the host cannot know this token"
            input_ids[place] = self._rows[row].tokens[-1]
        fed_ids: list[int] = input_ids.tolist()
        for run in batch.media:
            for k in range(run.num_rows):
                fed_ids[run.place + k] = row_token(run.digest, run.first_row + k)
        start = 0
        for i, row in enumerate(batch.req_pool_indices.tolist()):
            known = self._rows.get(row)
            assert known is not None, f"row {row} of request {batch.rids[i]} was freed or never set up"
            assert known.rid == batch.rids[i]
            assert known.adapter == (batch.adapters[i] if batch.adapters else 0)
            prefix, end = int(batch.prefix_lens[i]), int(batch.seq_lens[i])
            fed = fed_ids[start : start + end - prefix]
            assert fed == known.tokens[prefix:end], f"request {known.rid} was fed {fed}"
            self._table[row, prefix:end] = batch.out_cache_loc[start : start + end - prefix]
            self._extend_hashes(known)
            wanted = np.array(known.hashes[:end], dtype=np.uint64)
            held = self._kv[self._table[row, :prefix]]
            if (held != wanted[:prefix]).any():
                wrong = int(np.flatnonzero(held != wanted[:prefix])[0])
                raise AssertionError(
                    f"pass {batch.step}: slot {self._table[row, wrong]} of request {known.rid} (row {row}) does not "
                    f"hold the KV of its token {wrong} of {prefix}"
                )
            self._kv[self._table[row, prefix:end]] = wanted[prefix:end]
            known.num_fed += end - prefix
            start += end - prefix

    def _extend_hashes(self, known: _Row) -> None:
        if not known.hashes:
            adapter = self.adapters.get(known.adapter, "") if known.adapter else ""
            known.hashes.append(next_hash(start_hash(adapter, self.weights), known.tokens[0]))
        while len(known.hashes) < len(known.tokens):
            known.hashes.append(next_hash(known.hashes[-1], known.tokens[len(known.hashes)]))

    def _sample(self, batch: ModelWorkerBatch, mask_BW: npt.NDArray[np.int32] | None) -> StepResult:
        size = batch.batch_size
        failed = {run.digest: "bad media" for run in batch.media if run.digest in self.bad_media}
        result = StepResult(token_ids=[[] for _ in range(size)], media_faults=failed)
        if batch.logprobs is not None:
            result.output_logprobs = [None] * size
            result.input_logprobs = [None] * size
        if batch.pooling is not None:
            result.embeddings = [None] * size
        for i, row in enumerate(batch.req_pool_indices.tolist()):
            known = self._rows[row]
            prefix, end = int(batch.prefix_lens[i]), int(batch.seq_lens[i])
            spec = batch.logprobs[i] if batch.logprobs is not None else None
            if spec is not None and spec.input_start is not None:
                assert result.input_logprobs is not None
                states = known.hashes[prefix + spec.input_start :]
                result.input_logprobs[i] = [
                    _entry(state, target, spec, self.info.vocab_size)
                    for state, target in zip(states, spec.input_targets, strict=False)
                ]
            pooling = batch.pooling[i] if batch.pooling is not None else None
            if pooling is not None and pooling.is_last:
                assert result.embeddings is not None
                result.embeddings[i] = [float(known.hashes[end - 1] % 1000), float(known.num_fed)]
            if not batch.samples[i]:
                continue
            assert end == len(known.tokens), "a token is sampled before all tokens are computed"
            num_output = len(known.tokens) - len(known.sampling.prompt_ids)
            if num_output >= self.faults.get(known.rid, 1 << 30):
                result.faults[i] = "nan"
            state = known.hashes[end - 1]
            allowed = mask_BW[batch.constrained.index(i)] if mask_BW is not None and i in batch.constrained else None
            token_id = self._pick(known, state, num_output, allowed)
            known.tokens.append(token_id)
            result.token_ids[i] = [token_id]
            if spec is not None and spec.output:
                assert result.output_logprobs is not None
                result.output_logprobs[i] = [_entry(state, token_id, spec, self.info.vocab_size)]
        return result

    def _pick(self, known: _Row, state: int, num_output: int, allowed: npt.NDArray[np.int32] | None) -> int:
        vocab_size = self.info.vocab_size
        token_id = pick(state, vocab_size, known.sampling.choice_index)
        held_back = known.sampling.end_token_ids if num_output < known.sampling.params.min_new_tokens else ()
        for _ in range(vocab_size):
            is_allowed = allowed is None or (int(allowed[token_id // 32]) >> (token_id % 32)) & 1
            if is_allowed and token_id not in held_back:
                return token_id
            token_id = (token_id + 1) % vocab_size
        raise AssertionError(f"request {known.rid} may sample no token at all")


def _entry(state: int, token_id: int, spec: LogprobSpec, vocab_size: int) -> TokenLogprobs:
    ranked = sorted(range(vocab_size), key=lambda token: -token_logprob(state, token)) if spec.top else []
    return TokenLogprobs(
        token_id=token_id,
        logprob=token_logprob(state, token_id),
        top=[(token, token_logprob(state, token)) for token in ranked[: spec.top]],
        chosen=[(token, token_logprob(state, token)) for token in spec.token_ids],
    )
