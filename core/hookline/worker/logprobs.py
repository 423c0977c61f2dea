"""Log-probabilities: of sampled tokens and of prompt tokens.

They are the log-softmax of the model's own logits, before penalties, bias, masks, temperature and filters:
what the model said, so that neither a request's other settings nor its batch mates change them.

Shape letters: B requests, S sampled rows, N rows asked for, T tokens of the pass, V vocabulary, C chosen ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.worker_batch import LogprobSpec
from hookline.interfaces.worker import TokenLogprobs
from hookline.platform import Platform
from hookline.worker.packing import HostPack

IntArray = npt.NDArray[np.int64]

#: Prompt rows whose logits exist at once.
_BLOCK_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobTensors:
    """What was gathered for N rows; on the device, later on the host."""

    #: [N] ids and their log-probabilities.
    ids: torch.Tensor
    values: torch.Tensor
    #: [N, K] of the best tokens, best first; ``None`` when nobody wants any.
    top_ids: torch.Tensor | None
    top_values: torch.Tensor | None
    #: [N, C] of the chosen ids, padded; ``None`` when nobody wants any.
    chosen_values: torch.Tensor | None

    def to_host(self, platform: Platform) -> LogprobTensors:
        """Start copying everything to the host."""

        def copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else platform.to_host(tensor)

        return LogprobTensors(
            ids=platform.to_host(self.ids),
            values=platform.to_host(self.values),
            top_ids=copy(self.top_ids),
            top_values=copy(self.top_values),
            chosen_values=copy(self.chosen_values),
        )


class LogprobRows:
    """Rows whose log-probabilities are wanted, requests one after the other.

    ``owners`` are (index into B, wish, number of rows); ``index`` [N] says which rows of what there is.
    """

    def __init__(self, owners: Sequence[tuple[int, LogprobSpec, int]], index: IntArray, pack: HostPack) -> None:
        self._owners = list(owners)
        self._index = pack.put(index)
        self._num_top = max(spec.top for _, spec, _ in owners)
        most = max(len(spec.token_ids) for _, spec, _ in owners)
        self._chosen: int | None = None
        if most:
            counts = [count for _, _, count in owners]
            padded = [spec.token_ids + (0,) * (most - len(spec.token_ids)) for _, spec, _ in owners]
            self._chosen = pack.put(np.repeat(np.array(padded, dtype=np.int64), counts, axis=0))

    def index(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """[N] the rows, on the device."""
        return tensors[self._index]

    def gather(
        self, logprobs_NV: torch.Tensor, ids_N: torch.Tensor, tensors: Sequence[torch.Tensor], rows: slice | None = None
    ) -> LogprobTensors:
        """Pick what is wanted from log-probabilities; ``rows``: which of the N rows these are."""
        num_top = min(self._num_top, logprobs_NV.shape[1])
        top = logprobs_NV.topk(num_top, dim=-1) if num_top else None
        chosen = None
        if self._chosen is not None:
            ids_NC = tensors[self._chosen] if rows is None else tensors[self._chosen][rows]
            chosen = logprobs_NV.gather(1, ids_NC)
        return LogprobTensors(
            ids=ids_N,
            # Placeholder ids of media lie above the vocabulary: they get the number of its last token.
            values=logprobs_NV.gather(1, ids_N.clamp(max=logprobs_NV.shape[1] - 1)[:, None])[:, 0],
            top_ids=None if top is None else top.indices,
            top_values=None if top is None else top.values,
            chosen_values=chosen,
        )

    def assemble(self, found: LogprobTensors | None, batch_size: int) -> list[list[TokenLogprobs] | None]:
        """[B] the log-probabilities of each request that asked, from tensors that are on the host by now.

        ``found`` is ``None`` when those that asked have no rows.
        """
        result: list[list[TokenLogprobs] | None] = [None] * batch_size
        if found is None:
            for b, _, _ in self._owners:
                result[b] = []
            return result
        ids, values = found.ids.tolist(), found.values.tolist()
        top_ids = None if found.top_ids is None else found.top_ids.tolist()
        top_values = None if found.top_values is None else found.top_values.tolist()
        chosen_values = None if found.chosen_values is None else found.chosen_values.tolist()
        row = 0
        for b, spec, count in self._owners:
            tokens = []
            for n in range(row, row + count):
                token = TokenLogprobs(token_id=ids[n], logprob=values[n])
                if spec.top and top_ids is not None and top_values is not None:
                    token.top = list(zip(top_ids[n][: spec.top], top_values[n][: spec.top], strict=True))
                if spec.token_ids and chosen_values is not None:
                    token.chosen = list(zip(spec.token_ids, chosen_values[n], strict=False))
                tokens.append(token)
            result[b] = tokens
            row += count
        return result


def plan_output(wishes: Sequence[LogprobSpec | None], sampled: IntArray, pack: HostPack) -> LogprobRows | None:
    """Rows of sampled tokens whose log-probabilities are wanted; ``sampled`` [S] are indices into B."""
    owners, index = [], []
    for s, b in enumerate(sampled.tolist()):
        spec = wishes[b]
        if spec is not None and spec.output:
            owners.append((b, spec, 1))
            index.append(s)
    return LogprobRows(owners, np.array(index, dtype=np.int64), pack) if owners else None


class InputLogprobs:
    """Log-probabilities of prompt tokens: rows of the hidden states, and the id that follows each."""

    def __init__(self, rows: LogprobRows, targets: int) -> None:
        self._rows = rows
        self._targets = targets

    def assemble(self, found: LogprobTensors | None, batch_size: int) -> list[list[TokenLogprobs] | None]:
        """See ``LogprobRows.assemble``."""
        return self._rows.assemble(found, batch_size)

    @staticmethod
    def plan(wishes: Sequence[LogprobSpec | None], starts: IntArray, pack: HostPack) -> InputLogprobs | None:
        """``starts`` [B] is the first token of each request in the pass."""
        owners: list[tuple[int, LogprobSpec, int]] = []
        index: list[IntArray] = []
        targets: list[int] = []
        for b, spec in enumerate(wishes):
            if spec is not None and spec.input_start is not None:
                first = int(starts[b]) + spec.input_start
                owners.append((b, spec, len(spec.input_targets)))
                index.append(np.arange(first, first + len(spec.input_targets), dtype=np.int64))
                targets.extend(spec.input_targets)
        if not owners:
            return None
        rows = LogprobRows(owners, np.concatenate(index), pack)
        return InputLogprobs(rows, pack.put(np.array(targets, dtype=np.int64)))

    def compute(
        self,
        hidden_TH: torch.Tensor,
        compute_logprobs: Callable[[torch.Tensor], torch.Tensor],
        tensors: Sequence[torch.Tensor],
    ) -> LogprobTensors | None:
        """Gathered for all rows, some rows at a time so that their logits need little memory; ``None`` if
        the prompts have nothing in this pass."""
        index, targets = self._rows.index(tensors), tensors[self._targets]
        parts = []
        for start in range(0, index.shape[0], _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            logprobs_NV = compute_logprobs(hidden_TH[index[block]])
            parts.append(self._rows.gather(logprobs_NV, targets[block], tensors, block))
        return _join(parts) if parts else None


def _join(parts: Sequence[LogprobTensors]) -> LogprobTensors:
    if len(parts) == 1:
        return parts[0]

    def cat(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(present) if present else None

    return LogprobTensors(
        ids=torch.cat([part.ids for part in parts]),
        values=torch.cat([part.values for part in parts]),
        top_ids=cat([part.top_ids for part in parts]),
        top_values=cat([part.top_values for part in parts]),
        chosen_values=cat([part.chosen_values for part in parts]),
    )
