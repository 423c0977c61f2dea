"""Platforms for tests of the worker: a thread of its own, and a device that is always behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from hookline.platform import CpuPlatform, DeviceMemory, FutureTicket, Graph, Ticket, WorkQueue

R = TypeVar("R")


class ThreadedPlatform(CpuPlatform):
    """Passes run in a thread of their own."""

    def __init__(self) -> None:
        super().__init__(threads=1)

    def queue(self) -> WorkQueue:
        return ThreadQueue()


class ThreadQueue(WorkQueue):
    """Runs work in one thread of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1)

    def submit(self, work: Callable[[], R]) -> Ticket[R]:
        return FutureTicket(self._executor.submit(work))

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class LatePlatform(CpuPlatform):
    """Works like a GPU that is far behind: what is submitted runs only when somebody waits for it.

    It says how much memory a pass took.
    """

    reads_are_free = False
    counts_allocations = True

    def __init__(self, *, peak: int = 1 << 20, held: int = 0) -> None:
        super().__init__(threads=1)
        self.peak = peak
        self.held = held
        self.num_measured = 0

    def queue(self) -> WorkQueue:
        return LateQueue()

    def measure_peak(self, work: Callable[[], object]) -> int:
        work()
        self.num_measured += 1
        return self.peak

    def measure_held(self, work: Callable[[], object]) -> int:
        work()
        return self.held


class GraphPlatform(CpuPlatform):
    """Captures work as a GPU does: a replay runs the same calls with the same host values, and leaves its answer
    in the same tensors."""

    captures_graphs = True

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.num_captured = 0
        self.num_replayed = 0

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        # A copy that is queued behind this replay has its numbers, not those of the next.
        return tensor.clone()

    def capture(self, work: Callable[[], R]) -> Graph[R]:
        self.num_captured += 1
        return _FakeGraph(self, work)


class CountingPlatform(GraphPlatform):
    """Says what graphs take: much for the first one after all others were forgotten, and the same for each more."""

    counts_allocations = True
    allocation_unit = 1 << 10
    first_graph = 5 << 20
    next_graph = 1 << 20

    def __init__(self, free: int = 1 << 30) -> None:
        super().__init__()
        self.free = free
        self.num_live = 0
        #: Fails with "out of memory" from this capture on.
        self.fails_at = 1 << 30

    def memory(self) -> DeviceMemory:
        return DeviceMemory(free=self.free, total=self.free)

    def measure_peak(self, work: Callable[[], object]) -> int:
        work()
        return 3 << 20

    def measure_held(self, work: Callable[[], object]) -> int:
        before = self._graph_bytes()
        work()
        return self._graph_bytes() - before

    def capture(self, work: Callable[[], R]) -> Graph[R]:
        if self.num_captured >= self.fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        self.num_live += 1
        return super().capture(work)

    def forget_graphs(self) -> None:
        self.num_live = 0

    def _graph_bytes(self) -> int:
        return self.first_graph + (self.num_live - 1) * self.next_graph if self.num_live else 0


class _FakeGraph(Generic[R]):
    """Every answer's tensors are written over by the next replay, of this graph or another."""

    def __init__(self, platform: GraphPlatform, work: Callable[[], R]) -> None:
        self._platform = platform
        self._work = work
        self._value = work()

    def replay(self) -> R:
        self._platform.num_replayed += 1
        new = self._work()
        for name in self._value.__dataclass_fields__:  # type: ignore[attr-defined]
            getattr(self._value, name).copy_(getattr(new, name))
        return self._value


class LateQueue(WorkQueue):
    """Runs work when its ticket, or one behind it, is waited for."""

    def __init__(self) -> None:
        self._pending: deque[_LateTicket[object]] = deque()

    def submit(self, work: Callable[[], R]) -> Ticket[R]:
        ticket = _LateTicket(self, work)
        self._pending.append(ticket)  # type: ignore[arg-type]
        return ticket

    def run_until(self, ticket: object) -> None:
        while self._pending:
            first = self._pending.popleft()
            first.run()
            if first is ticket:
                return

    def close(self) -> None:
        self.run_until(None)


class _LateTicket(Generic[R]):
    def __init__(self, queue: LateQueue, work: Callable[[], R]) -> None:
        self._queue = queue
        self._work = work
        self._is_done = False
        self._value: R | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._value = self._work()
        except Exception as exc:
            self._error = exc
        self._is_done = True

    def wait(self) -> R:
        if not self._is_done:
            self._queue.run_until(self)
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]
