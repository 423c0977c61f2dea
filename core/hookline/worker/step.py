"""Steps: what a launch does, from a ModelWorkerBatch to a StepResult.

A StepRunner decides how a pass yields tokens; ``AutoregressiveRunner`` yields one token per request.
Everything that touches the device runs in the platform's work queue, in the order of the launches, so what
is kept by row (KV, penalty counts, last tokens) is exact although the host is ahead.

Shape letters: B requests, K most tokens per request, S sampled rows, T tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.forward_batch import EncoderRows
from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.interfaces.worker import Step, StepResult
from hookline.layers.ops import LOG_SOFTMAX, Ops
from hookline.platform import Platform, Ticket, WorkQueue, is_out_of_memory
from hookline.worker.decode_graphs import DecodeGraphs, DecodeOutput
from hookline.worker.encoder_store import EncoderStore
from hookline.worker.forward_inputs import ForwardTensors
from hookline.worker.history import OutputHistory
from hookline.worker.logprobs import LogprobTensors
from hookline.worker.model_runner import ModelRunner
from hookline.worker.overlap import TokenTable
from hookline.worker.pass_plan import PassPlan
from hookline.worker.penalties import PenaltyTable
from hookline.worker.pooling import RowPoolers
from hookline.worker.sampler import Sampled, Sampler
from hookline.worker.sampling_rows import SamplingRows


@dataclass(slots=True, kw_only=True)
class StepOutput:
    """The new tokens of a pass, on the device."""

    #: [B, K] int64; the first ``num_new`` of each row count.
    token_ids: torch.Tensor
    #: [B] int64; ``None``: all K of every row.
    num_new: torch.Tensor | None = None


class StepRunner(ABC):
    """Carries out passes."""

    @abstractmethod
    def launch(self, batch: ModelWorkerBatch) -> Step:
        """Start a pass; see ``hookline.interfaces.worker.Worker.launch``."""

    def prepare(self) -> None:  # noqa: B027 - optional
        """Weights and KV pool are where they will stay: do what depends on their addresses. Called again whenever
        they were taken anew."""


class AutoregressiveRunner(StepRunner):
    """One forward pass, then one token for each request that is sampled."""

    def __init__(
        self,
        model: ModelRunner,
        platform: Platform,
        queue: WorkQueue,
        rows: SamplingRows,
        tokens: TokenTable,
        poolers: RowPoolers,
        encoder: EncoderStore,
        ops: Ops,
        graphs: DecodeGraphs | None = None,
    ) -> None:
        self.model = model
        self.platform = platform
        self.queue = queue
        self.rows = rows
        self.poolers = poolers
        self.encoder = encoder
        self.graphs = graphs
        self.tokens = tokens
        self.penalties = PenaltyTable(rows.vocab_size, platform.device)
        self.sampler = Sampler(self.penalties, ops)
        self.log_softmax = ops.request(LOG_SOFTMAX)
        self.history = OutputHistory()
        self._last: AutoregressiveStep | None = None
        #: A pass had no memory, and its result was not read yet: what is launched builds on what is not there.
        self.is_short = False
        #: Passes up to this one were launched before such a result was read.
        self.spoilt_step = -1

    def launch(self, batch: ModelWorkerBatch) -> Step:
        if self._last is not None and not self._last.is_sampled:
            raise RuntimeError(
                f"pass {batch.step} was launched before pass {self._last.batch.step} was sampled, whose tokens it needs"
            )
        self._last = AutoregressiveStep(self, batch)
        return self._last

    def compute_logprobs(self, hidden_NH: torch.Tensor) -> torch.Tensor:
        """[N, V] log-probabilities of rows of the hidden states."""
        return self.log_softmax(self.model.compute_logits(hidden_NH))

    def forget(self) -> None:
        """Let go of the last pass, which holds tensors and this runner."""
        self._last = None

    def settle(self) -> None:
        """The result of a pass that had no memory is read: what is launched from now on is sound again."""
        self.is_short = False
        if self._last is not None:
            self.spoilt_step = self._last.batch.step

    def prepare(self) -> None:
        if self.graphs is not None:
            self.queue.submit(self.graphs.capture_all).wait()


@dataclass(slots=True, kw_only=True)
class _HostCopies:
    """What comes back from the device; readable once the pass was waited for."""

    token_ids: torch.Tensor | None = None
    num_new: torch.Tensor | None = None
    #: [S] see ``Sampled.best``.
    best: torch.Tensor | None = None
    output_logprobs: LogprobTensors | None = None
    input_logprobs: LogprobTensors | None = None
    #: Index into B -> vector.
    embeddings: dict[int, torch.Tensor] = field(default_factory=dict)
    #: Index into B -> what went wrong for that request.
    faults: dict[int, str] = field(default_factory=dict)
    #: Digest -> what went wrong in the encoder.
    media_faults: dict[bytes, str] = field(default_factory=dict)


class AutoregressiveStep:
    """A launched pass; implements ``hookline.interfaces.worker.Step``."""

    def __init__(self, owner: AutoregressiveRunner, batch: ModelWorkerBatch) -> None:
        self.batch = batch
        self.is_sampled = not batch.constrained
        self._owner = owner
        decode = None if owner.graphs is None else owner.graphs.plan(batch)
        self._plan = PassPlan(batch, owner.rows, owner.platform, decode)
        self._copies = _HostCopies(faults=self._plan.errors)
        #: Set by the forward half for the sampling half.
        self._tensors: Sequence[torch.Tensor] = ()
        self._forward: ForwardTensors | None = None
        self._replayed: DecodeOutput | None = None
        self._logits: torch.Tensor | None = None
        self._logprobs: torch.Tensor | None = None
        self._failure: Exception | None = None
        #: What the device said when it had no memory for the pass.
        self._out_of_memory = ""
        #: Whether it was this pass, and not one before it.
        self._ran_short = False
        self._ticket: Ticket[None] = owner.queue.submit(self._run)

    def sample(self, bitmask_BW: npt.NDArray[np.int32] | None = None) -> None:
        """Sample a pass with constrained requests, now that their masks are known."""
        if self.is_sampled:
            raise RuntimeError(f"pass {self.batch.step} is sampled already")
        if bitmask_BW is None or bitmask_BW.shape[0] != len(self.batch.constrained):
            raise ValueError(f"pass {self.batch.step} needs a mask for each of {len(self.batch.constrained)} requests")
        self.is_sampled = True
        # Copied: the caller fills the same array for its next pass.
        mask = self._owner.platform.host_buffer(bitmask_BW.shape, torch.int32)
        np.copyto(mask.numpy(), bitmask_BW)
        self._ticket = self._owner.queue.submit(lambda: self._run_sampling(mask))

    def result(self) -> StepResult:
        """Wait for the pass and give its host results; raises what the pass raised."""
        if not self.is_sampled:
            raise RuntimeError(f"pass {self.batch.step} has constrained requests and was not sampled")
        self._ticket.wait()
        if self._ran_short:
            self._owner.settle()
        return self._assemble()

    # --- in the work queue ---

    def _run(self) -> None:
        owner = self._owner
        for row in self._plan.freed_rows:
            owner.poolers.release(row)
        if owner.is_short or self.batch.step <= owner.spoilt_step:
            self._out_of_memory = "a pass before this one, on which it builds, had no memory"
            return
        try:
            with torch.inference_mode():
                self._run_forward()
                if not self.batch.constrained:
                    self._sample(None)
        except Exception as exc:
            if not is_out_of_memory(exc):
                self._failure = exc
                raise
            self._give_up(exc)

    def _run_sampling(self, mask: torch.Tensor) -> None:
        if self._failure is not None:
            raise self._failure
        if self._out_of_memory:
            return
        try:
            with torch.inference_mode():
                self._sample(mask)
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
            self._give_up(exc)

    def _give_up(self, error: Exception) -> None:
        """Keep the words of the error only: its traceback holds the tensors of the pass."""
        self._out_of_memory = str(error) or type(error).__name__
        self._ran_short = self._owner.is_short = True
        self._tensors, self._forward, self._replayed, self._logits, self._logprobs = (), None, None, None, None
        # What came so far is not read; media that failed before stay failed.
        self._copies = _HostCopies(media_faults=self._copies.media_faults)

    def _run_forward(self) -> None:
        owner, plan, batch = self._owner, self._plan, self.batch
        tensors = self._tensors = plan.sealed.send()
        if plan.penalty_start is not None:
            plan.penalty_start.apply(owner.penalties, tensors)
        hidden_TH, logits_SV = self._run_model()
        if batch.pooling is not None:
            self._pool(hidden_TH)
        if plan.input_logprobs is not None:
            found = plan.input_logprobs.compute(hidden_TH, owner.compute_logprobs, tensors)
            self._copies.input_logprobs = None if found is None else found.to_host(owner.platform)
        if plan.output_logprobs is not None and logits_SV is not None:
            self._logprobs = owner.log_softmax(logits_SV[plan.output_logprobs.index(tensors)])
        self._logits = logits_SV

    def _run_model(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Hidden states of all tokens, and the logits of the rows that are sampled, if there are any."""
        owner, plan = self._owner, self._plan
        if plan.decode is not None:
            assert owner.graphs is not None
            output = self._replayed = owner.graphs.replay(plan.decode)
            return output.hidden, output.logits
        assert plan.inputs is not None
        forward = self._forward = plan.inputs.tensors(self._tensors)
        if forward.future_index.numel():
            owner.tokens.fill(forward.input_ids, forward.future_index, forward.future_rows)
        owner.model.write_table(forward)
        hidden_TH = owner.model.forward(self.batch, plan.inputs, forward, self._place_media())
        if not plan.sampled.size:
            return hidden_TH, None
        # A decode samples every row.
        is_whole = plan.sampled.size == hidden_TH.shape[0]
        return hidden_TH, owner.model.compute_logits(hidden_TH if is_whole else hidden_TH[forward.logits_index])

    def _place_media(self) -> EncoderRows | None:
        place = self._plan.media_places
        if place is None:
            return None
        rows, faults = self._owner.encoder.place(self.batch.media, self._tensors[place])
        self._copies.media_faults = faults
        return rows

    def _pool(self, hidden_TH: torch.Tensor) -> None:
        owner, inputs, batch = self._owner, self._plan.inputs, self.batch
        assert batch.pooling is not None
        assert inputs is not None
        pooled = owner.poolers.update(
            hidden_TH,
            batch.pooling,
            batch.rids,
            batch.req_pool_indices.tolist(),
            inputs.prefix_lens_cpu,
            inputs.extend_lens_cpu,
        )
        self._copies.embeddings = {b: owner.platform.to_host(vector) for b, vector in pooled.vectors.items()}
        self._copies.faults.update(pooled.errors)

    def _sample(self, mask: torch.Tensor | None) -> None:
        if self._logits is None:
            return
        owner, plan, copies = self._owner, self._plan, self._copies
        settings = plan.sampling.batch(self._tensors)
        if settings.processed:
            owner.history.settle()
        if self._replayed is not None and plan.sampling.is_greedy:
            sampled = Sampled(token_ids=self._replayed.token_ids, best=self._replayed.best)
        else:
            sampled = owner.sampler.sample(self._logits, settings, mask)
        self._logits = None
        output = self._keep(sampled.token_ids)
        owner.history.note(output, [(int(plan.sampled[s]), details) for s, details in settings.processed])
        copies.faults.update({int(plan.sampled[s]): error for s, error in sampled.errors.items()})
        if plan.output_logprobs is not None and self._logprobs is not None:
            ids = sampled.token_ids[plan.output_logprobs.index(self._tensors)]
            found = plan.output_logprobs.gather(self._logprobs, ids, self._tensors)
            copies.output_logprobs = found.to_host(owner.platform)
            self._logprobs = None
        copies.token_ids = owner.platform.to_host(output.token_ids)
        copies.num_new = None if output.num_new is None else owner.platform.to_host(output.num_new)
        copies.best = owner.platform.to_host(sampled.best)

    def _keep(self, token_ids_S: torch.Tensor) -> StepOutput:
        """Enter the tokens into the table, and give them as [B, 1]."""
        owner, plan = self._owner, self._plan
        if self._replayed is not None:
            if not plan.sampling.is_greedy:
                owner.tokens.write(self._replayed.rows, token_ids_S)
            return StepOutput(token_ids=token_ids_S[:, None])
        assert self._forward is not None
        num_new = plan.num_new(self._tensors)
        if token_ids_S.shape[0] == num_new.shape[0]:
            token_ids = token_ids_S
        else:
            token_ids = torch.zeros_like(num_new)
            token_ids[self._forward.sampled_index] = token_ids_S
        output = StepOutput(token_ids=token_ids[:, None], num_new=num_new)
        owner.tokens.store(self._forward.req_pool_indices, output)
        return output

    # --- after waiting ---

    def _assemble(self) -> StepResult:
        plan, copies, batch_size = self._plan, self._copies, self.batch.batch_size
        if self._out_of_memory:
            return StepResult(
                token_ids=[[] for _ in range(batch_size)],
                media_faults=copies.media_faults,
                out_of_memory=self._out_of_memory,
            )
        token_ids: list[list[int]] = [[] for _ in range(batch_size)]
        if copies.token_ids is not None:
            token_ids = copies.token_ids.tolist()
            if copies.num_new is not None:
                token_ids = [row[:count] for row, count in zip(token_ids, copies.num_new.tolist(), strict=True)]
        result = StepResult(token_ids=token_ids, faults=copies.faults, media_faults=copies.media_faults)
        if copies.best is not None:
            best_S = copies.best.numpy()
            for s in np.flatnonzero(~np.isfinite(best_S)).tolist():
                result.faults.setdefault(int(plan.sampled[s]), _fault(float(best_S[s])))
        if plan.output_logprobs is not None and copies.output_logprobs is not None:
            result.output_logprobs = plan.output_logprobs.assemble(copies.output_logprobs, batch_size)
        if plan.input_logprobs is not None:
            result.input_logprobs = plan.input_logprobs.assemble(copies.input_logprobs, batch_size)
        if self.batch.pooling is not None:
            result.embeddings = self._vectors(result.faults)
        for b in result.faults:
            result.token_ids[b] = []
        return result

    def _vectors(self, faults: dict[int, str]) -> list[list[float] | None]:
        vectors: list[list[float] | None] = [None] * self.batch.batch_size
        for b, tensor in self._copies.embeddings.items():
            if bool(torch.isfinite(tensor).all()):
                vectors[b] = tensor.tolist()
            else:
                faults[b] = "the embedding holds values that are not finite"
        return vectors


def _fault(best: float) -> str:
    """What the largest logit of a row says about it."""
    if best == -np.inf:
        return "no token is left: mask, bias and processors together forbid every token"
    return f"the logits are not finite (the largest is {best})"
