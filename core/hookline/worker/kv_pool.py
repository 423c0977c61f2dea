"""The KV cache on the device: one K and one V plane for each attention layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hookline.cache.spec import KVSpec
from hookline.errors import MemoryBudgetError
from hookline.platform import Platform


class KVPool:
    """Planes [slots, kv_heads, dim] of every layer; implements ``hookline.interfaces.attention.KVPool``.

    ``num_tokens`` slots belong to requests; one more page in front (slots 0 to page_size - 1) is a sink
    where padded rows write and nobody reads.
    """

    def __init__(self, specs: Sequence[KVSpec], *, num_tokens: int, page_size: int, platform: Platform) -> None:
        if num_tokens % page_size:
            raise ValueError(f"{num_tokens} tokens are not a whole number of pages of {page_size}")
        self._specs = tuple(specs)
        self._platform = platform
        self._k: list[torch.Tensor] = []
        self._v: list[torch.Tensor] = []
        #: layer_id -> index into the lists; layers without attention have no entry.
        self._index = {spec.layer_id: i for i, spec in enumerate(specs)}
        self.num_tokens = num_tokens
        self.page_size = page_size
        self.num_bytes = (num_tokens + page_size) * bytes_per_token(specs)
        self.allocate()

    def planes(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """K [slots, kv_heads, head_dim] and V [slots, kv_heads, v_head_dim] of a layer, as views."""
        index = self._index[layer_id]
        return self._k[index], self._v[index]

    def store(self, layer_id: int, loc: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Write k and v [T, kv_heads, dim] at slots ``loc`` [T]."""
        index = self._index[layer_id]
        self._k[index].index_copy_(0, loc, k)
        self._v[index].index_copy_(0, loc, v)

    def allocate(self) -> None:
        """Take the memory, zeroed: a slot that was never written must not hold NaN, which masks do not hide."""
        slots = self.num_tokens + self.page_size
        try:
            for spec in self._specs:
                dtype = getattr(torch, spec.dtype)
                self._k.append(self._platform.zeros((slots, spec.num_kv_heads, spec.head_dim), dtype))
                self._v.append(self._platform.zeros((slots, spec.num_kv_heads, spec.v_head_dim), dtype))
        except (torch.OutOfMemoryError, OSError, MemoryError) as exc:
            self.release()
            raise MemoryBudgetError(
                f"the KV cache of {self.num_tokens} tokens ({self.num_bytes / 2**30:.2f} GiB) could not be "
                f"allocated on {self._platform.device}: {exc}; set cache.kv_cache_tokens to a smaller number"
            ) from exc

    def release(self) -> None:
        """Give the memory back; ``planes`` and ``store`` fail until ``allocate``. What was cached is lost."""
        self._k.clear()
        self._v.clear()
        self._platform.release_cached()

    @property
    def is_allocated(self) -> bool:
        """Whether the planes are there."""
        return bool(self._k) or not self._specs


def bytes_per_token(specs: Sequence[KVSpec]) -> int:
    """Bytes that one token takes in all layers."""
    return sum(spec.bytes_per_token for spec in specs)
