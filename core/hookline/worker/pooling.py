"""RowPoolers: poolers of the embedding requests that are under way, fed chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from hookline.batch.worker_batch import PoolingSpec
from hookline.interfaces.pooling import Pooler


@dataclass(slots=True, kw_only=True)
class _Progress:
    """A request whose prompt is under way."""

    rid: str
    pooler: Pooler
    #: Where its next chunk must begin.
    next_position: int


@dataclass(slots=True, kw_only=True)
class Pooled:
    """What a pass gave: vectors by index into B, still on the device, and poolers that failed."""

    vectors: dict[int, torch.Tensor]
    errors: dict[int, str]


class RowPoolers:
    """Pooling state by request row. Runs in the work queue."""

    def __init__(self, makers: Mapping[str, Callable[[], Pooler]]) -> None:
        self._makers = dict(makers)
        self._rows: dict[int, _Progress] = {}

    def release(self, row: int) -> None:
        """Forget a row that was given back."""
        self._rows.pop(row, None)

    def update(
        self,
        hidden_TH: torch.Tensor,
        wishes: Sequence[PoolingSpec | None],
        rids: Sequence[str],
        rows: Sequence[int],
        prefix_lens: Sequence[int],
        extend_lens: Sequence[int],
    ) -> Pooled:
        """Feed the pass's hidden states to the poolers of its requests. All sequences are [B]."""
        pooled = Pooled(vectors={}, errors={})
        start = 0
        for b, spec in enumerate(wishes):
            end = start + extend_lens[b]
            if spec is not None:
                try:
                    vector = self._feed(hidden_TH[start:end], spec, rids[b], rows[b], prefix_lens[b])
                except Exception as exc:
                    # A pooler is a plugin: what it does wrong fails its request, not the pass.
                    pooled.errors[b] = f"pooler '{spec.pooling}' failed: {type(exc).__name__}: {exc}"
                else:
                    if vector is not None:
                        pooled.vectors[b] = vector
            start = end
        return pooled

    def _feed(
        self, hidden_TH: torch.Tensor, spec: PoolingSpec, rid: str, row: int, prefix_len: int
    ) -> torch.Tensor | None:
        progress = self._rows.get(row)
        # A row with another owner, or one whose request starts again, begins anew.
        is_first = progress is None or progress.rid != rid or progress.next_position != prefix_len
        if progress is None or is_first:
            progress = _Progress(rid=rid, pooler=self._make(spec.pooling), next_position=prefix_len)
            self._rows[row] = progress
        progress.pooler.update(hidden_TH, is_first, spec.is_last)
        progress.next_position += hidden_TH.shape[0]
        if not spec.is_last:
            return None
        del self._rows[row]
        vector = progress.pooler.result()
        if spec.dimensions is not None:
            vector = vector[: spec.dimensions]
        return torch.nn.functional.normalize(vector, dim=0) if spec.normalize else vector

    def _make(self, name: str) -> Pooler:
        maker = self._makers.get(name)
        if maker is None:
            raise LookupError(f"unknown pooler '{name}' (known: {', '.join(sorted(self._makers)) or 'none'})")
        return maker()
