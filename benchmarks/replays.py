"""Times calls on a GPU: replays of a captured graph, over inputs that do not fit into the cache together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DEVICE = torch.device("cuda")
DTYPE = torch.bfloat16
#: Bytes that rotating inputs take at least: several times the L2 cache of an H200.
COLD_BYTES = 400 << 20
REPLAYS = 20


def copies(num_bytes: int) -> int:
    """Sets of inputs of that size that do not fit into the cache together."""
    return max(2, min(64, math.ceil(COLD_BYTES / max(num_bytes, 1))))


def randn(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, device=DEVICE) * scale).to(DTYPE)


def replay_time(call: Callable[..., Any], sets: list[tuple[Any, ...]]) -> float:
    """Median microseconds of one call, in a graph that goes through all sets; eager if it cannot be captured."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for arguments in sets:
            call(*arguments)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                for arguments in sets:
                    call(*arguments)
            run: Callable[[], None] = graph.replay
        except RuntimeError:
            torch.cuda.synchronize()

            def run() -> None:
                for arguments in sets:
                    call(*arguments)

        times = []
        for _ in range(REPLAYS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(stream)
            run()
            end.record(stream)
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1000 / len(sets))
    return sorted(times)[len(times) // 2]


def copy_bandwidth() -> float:
    """Bytes per microsecond of a large copy, those read and those written."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    microseconds = replay_time(lambda a, b: b.copy_(a), [(source, target)])
    return 2 * source.numel() / microseconds
