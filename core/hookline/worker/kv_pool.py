"""The KV cache on the device: one K and one V plane for each attention layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hookline.cache.spec import KVSpec, group_specs
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
        self._groups = group_specs(specs)
        self._platform = platform
        #: layer_id -> its K and V; layers without attention have no entry.
        self._planes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.num_tokens = num_tokens
        self.page_size = page_size
        self.num_bytes = (num_tokens + page_size) * bytes_per_token(specs)
        self.allocate()

    def planes(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """K [slots, kv_heads, head_dim] and V [slots, kv_heads, v_head_dim] of a layer, as views."""
        return self._planes[layer_id]

    def store(self, layer_id: int, loc: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Write k and v [T, kv_heads, dim] at slots ``loc`` [T]."""
        k_plane, v_plane = self._planes[layer_id]
        k_plane.index_copy_(0, loc, k)
        v_plane.index_copy_(0, loc, v)

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copy K and V of all layers from slots ``sources`` [T] to slots ``targets`` [T], which are all different.

        As if everything were read before anything is written: a slot may be in both.
        """
        for planes in self._planes.values():
            for plane in planes:
                plane.index_copy_(0, targets, plane.index_select(0, sources))

    def allocate(self) -> None:
        """Take the memory, zeroed: a slot that was never written must not hold NaN, which masks do not hide."""
        slots = self.num_tokens + self.page_size
        try:
            for group in self._groups:
                for layer_id in group.layer_ids:
                    k, v = (
                        self._platform.zeros((slots, *plane.shape), getattr(torch, plane.dtype))
                        for plane in group.planes
                    )
                    self._planes[layer_id] = k, v
        except (torch.OutOfMemoryError, OSError, MemoryError) as exc:
            self.release()
            raise MemoryBudgetError(
                f"the KV cache of {self.num_tokens} tokens ({self.num_bytes / 2**30:.2f} GiB) could not be "
                f"allocated on {self._platform.device}: {exc}; set cache.kv_cache_tokens to a smaller number"
            ) from exc

    def release(self) -> None:
        """Give the memory back; ``planes`` and ``store`` fail until ``allocate``. What was cached is lost."""
        self._planes.clear()
        self._platform.release_cached()

    @property
    def is_allocated(self) -> bool:
        """Whether the planes are there."""
        return bool(self._planes) or not self._groups


def bytes_per_token(specs: Sequence[KVSpec]) -> int:
    """Bytes that one token takes in all layers."""
    return sum(group.bytes_per_token for group in group_specs(specs))
