"""Platform: the one object that knows the device: memory, pinning, streams, events.

``torch.cuda`` appears in core only here. Work reaches the device through a ``WorkQueue``: pieces run in
the order in which they were submitted, and ``submit`` does not wait for them.
"""

from __future__ import annotations

import contextlib
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import torch

from hookline.errors import ConfigError
from hookline.machine import physical_cores, read_memory, usable_cpus

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Threads that read a checkpoint, at most.
_MAX_READERS = 8
_PAGE_BYTES = mmap.PAGESIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Memory of the device in bytes, as it is now."""

    free: int
    total: int


class Ticket(Protocol[R_co]):
    """A piece of work that was submitted."""

    def wait(self) -> R_co:
        """Wait until the work and everything before it is done; gives its value or raises its error."""
        ...


class Graph(Protocol[R_co]):
    """Work that was captured: a sequence of kernels with fixed arguments."""

    def replay(self) -> R_co:
        """Launch it again. The tensors in the answer are the same ones every time, with new contents."""
        ...


class WorkQueue(ABC):
    """Work for the device, run in the order of its submission."""

    @abstractmethod
    def submit(self, work: Callable[[], R]) -> Ticket[R]:
        """Queue ``work``. It may run now or later, in this or in another thread; errors come from ``wait``."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was submitted and free the queue's thread, if it has one."""


class Platform(ABC):
    """A device and what differs between kinds of devices."""

    device: torch.device
    #: Whether reading a value from a tensor on the device costs nothing (no stream to wait for).
    reads_are_free: bool
    #: Whether ``measure_peak`` and ``measure_held`` work.
    counts_allocations: bool
    #: Bytes to which a large allocation is rounded up.
    allocation_unit: int
    #: Whether ``capture`` works.
    captures_graphs: bool
    #: Threads that read a large checkpoint.
    num_readers: int

    @abstractmethod
    def memory(self) -> DeviceMemory:
        """Free and total memory."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A large zeroed tensor on the device; where the system can, memory is taken page by page on first use."""

    @abstractmethod
    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor on the host that copies to and from the device asynchronously."""

    @abstractmethod
    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """Start copying ``tensor`` to the host; the answer may be read once the submitted work is done."""

    @abstractmethod
    def queue(self) -> WorkQueue:
        """A queue for this device."""

    @abstractmethod
    def measure_peak(self, work: Callable[[], object]) -> int:
        """Run ``work`` and give the bytes that it took at its peak, beyond what was taken before.

        Only where ``counts_allocations``.
        """

    @abstractmethod
    def measure_held(self, work: Callable[[], object]) -> int:
        """Run ``work`` and give the bytes that the device has less free afterwards, whoever took them (allocators,
        libraries, the driver). Only where ``counts_allocations``.
        """

    @abstractmethod
    def capture(self, work: Callable[[], R]) -> Graph[R]:
        """Run ``work`` once as it is, then capture the kernels that it launches. Runs in the work queue.

        ``work`` may neither wait for the device nor read from it. Graphs share one pool of memory: capture the
        largest first, and read the answer of one before the next one is replayed. Only where
        ``captures_graphs``.
        """

    def forget_graphs(self) -> None:  # noqa: B027 - only where graphs share memory
        """No captured graph is left: those that come share other memory. Call ``release_cached`` to free the old."""

    @abstractmethod
    def release_cached(self) -> None:
        """Give freed memory that an allocator holds back to the system."""


def create_platform(device: str, *, cpu_threads: int | None = None) -> Platform:
    """The platform of a device type, "cpu" or "cuda".

    Raises ``ConfigError`` when the machine has no such device.
    """
    if device == "cpu":
        return CpuPlatform(threads=cpu_threads)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("execution.device is 'cuda', but torch finds no CUDA device here; use 'cpu' or 'auto'")
        return CudaPlatform()
    raise ConfigError(f"unknown device '{device}' (known: cpu, cuda)")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device has no memory left, whoever raised it (torch, CUDA, a library)."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "alloc_failed" in text)


# --- CPU ---


class CpuPlatform(Platform):
    """The processor and main memory."""

    reads_are_free = True
    counts_allocations = False
    allocation_unit = 1
    captures_graphs = False

    def __init__(self, *, threads: int | None = None) -> None:
        self.device = torch.device("cpu")
        #: Threads that one operation may use.
        self.threads = threads or min(physical_cores(), usable_cpus())
        torch.set_num_threads(self.threads)
        self.num_readers = min(_MAX_READERS, usable_cpus())

    def memory(self) -> DeviceMemory:
        free, total = read_memory()
        return DeviceMemory(free=free, total=total)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        count = 1
        for extent in shape:
            count *= extent
        num_bytes = count * dtype.itemsize
        if num_bytes < _PAGE_BYTES:
            return torch.zeros(shape, dtype=dtype)
        # An anonymous mapping is zeroed by the kernel page by page on first touch: a large pool costs
        # neither start-up time nor memory until it is used.
        pages = mmap.mmap(-1, num_bytes)
        return torch.frombuffer(pages, dtype=dtype, count=count).view(shape)

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def queue(self) -> WorkQueue:
        # A thread of its own was measured and gains nothing: for small models passes are mostly Python and
        # wait for the same lock, for large ones the host's part of a step is too small to matter.
        return InlineQueue()

    def measure_peak(self, work: Callable[[], object]) -> int:
        raise NotImplementedError("main memory is shared; nobody counts what one piece of work takes")

    def measure_held(self, work: Callable[[], object]) -> int:
        raise NotImplementedError("main memory is shared; nobody counts what one piece of work takes")

    def capture(self, work: Callable[[], R]) -> Graph[R]:
        raise NotImplementedError("a processor has no graphs to capture")

    def release_cached(self) -> None:
        """Freed main memory goes back to the system by itself."""


class InlineQueue(WorkQueue):
    """Runs work at once, in the caller's thread."""

    def submit(self, work: Callable[[], R]) -> Ticket[R]:
        future: Future[R] = Future()
        try:
            future.set_result(work())
        except Exception as exc:
            future.set_exception(exc)
        return FutureTicket(future)

    def close(self) -> None:
        """Nothing is pending."""


class FutureTicket(Generic[R]):
    """A ticket over a future."""

    def __init__(self, future: Future[R]) -> None:
        self._future = future

    def wait(self) -> R:
        return self._future.result()


# --- CUDA ---


class CudaPlatform(Platform):
    """One CUDA device, the current one."""

    reads_are_free = False
    counts_allocations = True
    allocation_unit = 2 << 20
    captures_graphs = True

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        # A thread waits for the file while another one's tensor is on its way to the device.
        self.num_readers = min(_MAX_READERS, usable_cpus())
        self._graph_pool: Any = None

    def memory(self) -> DeviceMemory:
        free, total = torch.cuda.mem_get_info(self.device)
        # What torch's allocator holds but does not use is free for us.
        held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return DeviceMemory(free=free + held, total=total)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        # torch's pinned allocator reuses a buffer only after the copies that read it are done.
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.host_buffer(tuple(tensor.shape), tensor.dtype).copy_(tensor, non_blocking=True)

    def queue(self) -> WorkQueue:
        return StreamQueue(self.device)

    def measure_peak(self, work: Callable[[], object]) -> int:
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before

    def measure_held(self, work: Callable[[], object]) -> int:
        before = self._free_for_all()
        work()
        return max(0, before - self._free_for_all())

    def _free_for_all(self) -> int:
        """Bytes that any process could take."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(self.device)[0])

    def capture(self, work: Callable[[], R]) -> Graph[R]:
        # Kernels are compiled, and libraries take their workspaces, before anything is captured.
        work()
        torch.cuda.current_stream(self.device).synchronize()
        if self._graph_pool is None:
            self._graph_pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads (weights that are read, buffers that are pinned) may go on meanwhile.
        graph.capture_begin(pool=self._graph_pool, capture_error_mode="thread_local")
        try:
            value = work()
        except BaseException:
            # The capture is broken too; what broke it is what is told.
            with contextlib.suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
        return CudaGraph(graph, value)

    def forget_graphs(self) -> None:
        # torch refuses to capture into a pool whose graphs are all gone.
        self._graph_pool = None

    def release_cached(self) -> None:
        torch.cuda.empty_cache()


class CudaGraph(Generic[R]):
    """A captured CUDA graph, launched on the current stream."""

    def __init__(self, graph: torch.cuda.CUDAGraph, value: R) -> None:
        self._graph = graph
        self._value = value

    def replay(self) -> R:
        self._graph.replay()
        return self._value


class StreamQueue(WorkQueue):
    """Launches work on one CUDA stream; a ticket waits for the event behind it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Weights and pools were made on the default stream.
        self._stream.wait_stream(torch.cuda.default_stream(device))

    def submit(self, work: Callable[[], R]) -> Ticket[R]:
        context = cast(AbstractContextManager[Any], torch.cuda.stream(self._stream))
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        value: R | None = None
        error: Exception | None = None
        with context:
            try:
                value = work()
            except Exception as exc:
                error = exc
            event.record(self._stream)
        return EventTicket(event, cast(R, value), error)

    def close(self) -> None:
        self._stream.synchronize()


class EventTicket(Generic[R]):
    """A ticket over a CUDA event."""

    def __init__(self, event: torch.cuda.Event, value: R, error: Exception | None) -> None:
        self._event = event
        self._value = value
        self._error = error

    def wait(self) -> R:
        if self._error is not None:
            raise self._error
        self._event.synchronize()
        return self._value
