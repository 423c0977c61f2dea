"""Poolers over the final-norm states of a prompt that may come in chunks.

Shape letters: T tokens of a chunk, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hookline.interfaces.pooling import Pooler


class LastPooler(Pooler):
    """The state of the last token."""

    def __init__(self) -> None:
        self._state_H: Tensor | None = None

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        # A clone, because the pass's tensor is reused or large; only the last chunk's row counts.
        if is_last:
            self._state_H = hidden_TH[-1].float().clone()

    def result(self) -> Tensor:
        assert self._state_H is not None, "result() before the last chunk"
        return self._state_H


class ClsPooler(Pooler):
    """The state of the first token."""

    def __init__(self) -> None:
        self._state_H: Tensor | None = None

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        if is_first:
            self._state_H = hidden_TH[0].float().clone()

    def result(self) -> Tensor:
        assert self._state_H is not None, "result() without the first chunk"
        return self._state_H


class MeanPooler(Pooler):
    """The mean over all tokens, added up in float32 so that the number of chunks does not matter."""

    def __init__(self) -> None:
        self._sum_H: Tensor | None = None
        self._num_tokens = 0

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        chunk_H = torch.sum(hidden_TH, dim=0, dtype=torch.float32)
        # A retracted request starts again from its first chunk.
        if is_first or self._sum_H is None:
            self._sum_H, self._num_tokens = chunk_H, 0
        else:
            self._sum_H += chunk_H
        self._num_tokens += hidden_TH.shape[0]

    def result(self) -> Tensor:
        assert self._sum_H is not None, "result() before the last chunk"
        return self._sum_H / self._num_tokens
