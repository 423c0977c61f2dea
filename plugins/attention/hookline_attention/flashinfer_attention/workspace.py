"""Workspaces: memory that FlashInfer's plans and kernels share.

FlashInfer writes a plan into pinned memory and starts a copy to the device. The next plan may be made before that
copy has run: the host is a pass ahead. So plans take turns over several pieces of pinned memory, each of which is
used again only when its copy is done.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: What FlashInfer itself takes for the integers of a plan.
PLAN_BYTES = 8 << 20
#: Plans whose copies may be under way.
_TURNS = 4
_MIB = 1 << 20
#: Beyond the partial results: alignment.
_SPARE_BYTES = _MIB
#: Rows of the largest tile of queries, and blocks that a multiprocessor has in flight.
_LARGEST_TILE = 128
_BLOCKS_PER_SM = 2


def float_bytes(num_q_heads: int, num_kv_heads: int, head_dim: int, *, captured_batch: int, num_sms: int) -> int:
    """Bytes for the partial results, float32 values and a log-sum-exp of each row, of every plan that may be made.

    Keys are split only while the tiles times the splits fit the device at once, a prefill's tiles being the
    largest. A captured decode reserves a tile for every request whatever its length.
    """
    group = num_q_heads // num_kv_heads
    blocks = max(1, _BLOCKS_PER_SM * num_sms // num_kv_heads)
    eager_rows = blocks * _LARGEST_TILE
    tile = 16 if group <= 16 else 64 if group <= 64 else _LARGEST_TILE
    tiles = -(-captured_batch * group // tile) + captured_batch
    captured_rows = max(blocks, tiles) * tile
    needed = num_q_heads * max(eager_rows, captured_rows) * (head_dim + 1) * 4 + _SPARE_BYTES
    return -(-needed // _MIB) * _MIB


class StagingMemory:
    """Pinned memory for plans on their way to the device."""

    def __init__(self, device: torch.device, turns: int = _TURNS) -> None:
        self._is_cuda = device.type == "cuda"
        self._pieces = [torch.empty(PLAN_BYTES, dtype=torch.uint8, pin_memory=self._is_cuda) for _ in range(turns)]
        self._events: list[torch.cuda.Event | None] = [None] * turns
        self._turn = 0

    def take(self) -> Tensor:
        """Memory for the next plan; waits if the copy out of it is still to come."""
        event = self._events[self._turn]
        if event is not None:
            event.synchronize()
        return self._pieces[self._turn]

    def sent(self) -> None:
        """The copy out of what ``take`` gave was started in the current stream."""
        if self._is_cuda:
            event = self._events[self._turn]
            if event is None:
                event = self._events[self._turn] = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._turn = (self._turn + 1) % len(self._pieces)


class Workspaces:
    """All memory of one backend beyond the page tables."""

    def __init__(self, device: torch.device, num_bytes: int) -> None:
        self._device = device
        self._plans: dict[int, Tensor] = {}
        self.floats = self._zeros(num_bytes)
        self.staging = StagingMemory(device)

    def grow(self, num_bytes: int) -> None:
        """Take larger ``floats``; who has the old ones keeps them."""
        if self.floats.numel() < num_bytes:
            self.floats = self._zeros(num_bytes)

    def plan_memory(self, number: int) -> Tensor:
        """Memory for the plan of a kind of layer. All captured passes share it: each replay writes its plan anew."""
        memory = self._plans.get(number)
        if memory is None:
            memory = self._plans[number] = self._zeros(PLAN_BYTES)
        return memory

    def _zeros(self, num_bytes: int) -> Tensor:
        # FlashInfer wants the floats zeroed once. Ordinary tensors, which graphs may keep.
        with torch.inference_mode(False):
            return torch.zeros(num_bytes, dtype=torch.uint8, device=self._device)
