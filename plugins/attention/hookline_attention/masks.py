"""Additive masks for queries that are the last tokens of their keys."""

from __future__ import annotations

import torch
from torch import Tensor

#: Queries that run at once against their keys. Later blocks see more keys, so blocks also skip most of the
#: half of the products that a causal mask would throw away.
QUERY_BLOCK = 128


class CausalMasks:
    """Masks cut from one tensor: a block of queries at the end of ``kv_len`` keys always looks the same."""

    def __init__(self, dtype: torch.dtype, device: torch.device, max_len: int) -> None:
        self._dtype = dtype
        self._max_len = max_len
        self._device = device
        #: window -> [QUERY_BLOCK, keys]; grows with the longest text seen.
        self._base: dict[int | None, Tensor] = {}

    def block(self, q_len: int, kv_len: int, window: int | None) -> Tensor:
        """[q_len, kv_len] for ``q_len`` <= QUERY_BLOCK queries that are the last of ``kv_len`` tokens."""
        base = self._base.get(window)
        if base is None or base.shape[1] < kv_len:
            # Doubled each time, up to the longest context, so that a growing text rarely builds one.
            doubled = 0 if base is None else min(2 * base.shape[1], self._max_len)
            base = self._build(max(kv_len, doubled, QUERY_BLOCK), window)
            self._base[window] = base
        return base[QUERY_BLOCK - q_len :, base.shape[1] - kv_len :]

    def _build(self, kv_len: int, window: int | None) -> Tensor:
        rows = torch.arange(kv_len - QUERY_BLOCK, kv_len, device=self._device).unsqueeze(1)
        columns = torch.arange(kv_len, device=self._device)
        return additive(visible(rows, columns, window), self._dtype)


def visible(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Whether a query position sees a key position; the two tensors broadcast."""
    seen = key <= query
    return seen if window is None else seen & (key > query - window)


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where allowed, minus infinity elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, float("-inf"))
