"""How requests of a pass are put together for attention: padded groups of similar lengths, or alone.

All of it is arithmetic on the host's lengths; no tensor is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: A group's fixed cost (launching its few kernels), counted in elements of K that are gathered and read...
_GROUP_COST_IN_KEYS = 40_000
#: ...and in products of q and k elements.
_GROUP_COST_IN_PRODUCTS = 500_000
#: An extend with more products than this gains nothing from company.
_ALONE_PRODUCTS = 4_000_000
#: Elements of K that a group of several may gather. On a CPU the copy then stays in the cache until it is
#: read (measured with 2 MB of second-level cache per core); elsewhere it only bounds memory.
CPU_GROUP_LIMIT = 320_000
DEVICE_GROUP_LIMIT = 64_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """One request of a pass: ``q_len`` new tokens from row ``start`` of the pass, ``kv_len`` in all."""

    index: int
    start: int
    q_len: int
    kv_len: int


def spans_of(extend_lens: Sequence[int], seq_lens: Sequence[int]) -> list[Span]:
    """The requests that compute at least one token, in order."""
    spans: list[Span] = []
    start = 0
    for index, (q_len, kv_len) in enumerate(zip(extend_lens, seq_lens, strict=True)):
        if q_len:
            spans.append(Span(index, start, q_len, kv_len))
            start += q_len
    return spans


def group_spans(spans: Sequence[Span], *, q_size: int, kv_size: int, limit: int) -> list[list[Span]]:
    """Split into groups in which padding costs less than another group would.

    ``q_size`` and ``kv_size`` are the elements of one token's queries and keys; a group of several gathers
    at most ``limit`` elements of keys. Requests with one token are never padded to several, and long
    extends stay alone.
    """
    ones = [span for span in spans if span.q_len == 1]
    alone: list[Span] = []
    short: list[Span] = []
    for span in spans:
        if span.q_len > 1:
            (alone if span.q_len * span.kv_len * q_size > _ALONE_PRODUCTS else short).append(span)
    return [
        *_pack(ones, limit // kv_size, _keys, _GROUP_COST_IN_KEYS / kv_size),
        *_pack(short, limit // kv_size, _products, _GROUP_COST_IN_PRODUCTS / q_size),
        *([span] for span in alone),
    ]


def _keys(count: int, q_len: int, kv_len: int) -> int:
    return count * kv_len


def _products(count: int, q_len: int, kv_len: int) -> int:
    return count * q_len * kv_len


def _pack(
    spans: list[Span], max_keys: int, work: Callable[[int, int, int], int], max_padding: float
) -> list[list[Span]]:
    """Go through the spans by length and open a group when joining the last one would pad or grow too much.

    ``work`` says what a number of requests of equal lengths costs; ``max_padding`` is what joining may add.
    """
    groups: list[list[Span]] = []
    q_max = kv_max = 0
    for span in sorted(spans, key=lambda span: (span.kv_len, span.q_len, span.index)):
        if groups:
            count = len(groups[-1])
            q_joined, kv_joined = max(q_max, span.q_len), max(kv_max, span.kv_len)
            padding = (
                work(count + 1, q_joined, kv_joined) - work(count, q_max, kv_max) - work(1, span.q_len, span.kv_len)
            )
            if padding <= max_padding and (count + 1) * kv_joined <= max_keys:
                groups[-1].append(span)
                q_max, kv_max = q_joined, kv_joined
                continue
        groups.append([span])
        q_max, kv_max = span.q_len, span.kv_len
    for group in groups:
        group.sort(key=lambda span: span.index)
    return groups
