"""GraphMemory: what captured decodes keep, told from a few of them before the KV cache is sized.

A graph has the addresses of the KV planes in it, so all graphs are captured when the planes are where they stay. What
they will take is measured with a small cache: the largest, in whose memory the others run, and the next ones, each of
which adds its own nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookline.platform import Platform, WorkQueue
    from hookline.worker.decode_graphs import DecodeGraphs

#: Graphs beside the largest that are measured.
_MEASURED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphMemory:
    """Bytes."""

    #: The largest graph with the memory that all share.
    largest: int
    #: Each further one.
    each: int
    num_graphs: int

    @property
    def total(self) -> int:
        """All graphs together."""
        return self.largest + self.each * (self.num_graphs - 1)

    @classmethod
    def measure(cls, graphs: DecodeGraphs, platform: Platform, queue: WorkQueue) -> GraphMemory:
        """Capture a few and let go of them. Only on platforms that count allocations."""
        sizes = graphs.ladder[::-1]

        def capture(some: list[int]) -> int:
            return platform.measure_held(lambda: queue.submit(lambda: graphs.capture(some)).wait())

        largest = capture(sizes[:1])
        more = sizes[1 : 1 + _MEASURED]
        # Rounded up: what is held grows in steps of the allocator.
        each = -(-capture(more) // len(more)) if more else 0
        queue.submit(graphs.release).wait()
        return cls(largest=largest, each=each, num_graphs=len(sizes))
