"""PagedAllocator against a model: the set of slots that each request holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.cache.allocator import PagedAllocator


@dataclass
class Held:
    """A request as the model sees it: the slot of each of its tokens."""

    slots: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.slots[-1] if self.slots else -1


def pages(length: int, page_size: int) -> int:
    return -(-length // page_size)


def check_layout(allocator: PagedAllocator, requests: list[Held]) -> None:
    """No slot twice, never the sink, tokens contiguous within pages, and the count of free slots right."""
    size = allocator.page_size
    used: set[int] = set()
    for request in requests:
        for position, slot in enumerate(request.slots):
            assert slot % size == position % size
            if position % size:
                assert slot == request.slots[position - 1] + 1
        mine = {slot // size for slot in request.slots}
        assert len(mine) == pages(len(request.slots), size)
        assert not used & mine
        used |= mine
    assert 0 not in used
    assert all(1 <= page <= allocator.num_pages for page in used)
    assert used | set(allocator.free_pages.tolist()) == set(range(1, allocator.num_pages + 1))
    assert allocator.num_free == (allocator.num_pages - len(used)) * size


@pytest.mark.parametrize("page_size", [1, 16, 64])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_random_use_agrees_with_a_set_of_slots(page_size: int, data: st.DataObject) -> None:
    allocator = PagedAllocator(data.draw(st.integers(1, 12)) * page_size + page_size // 2, page_size, check=True)
    requests: list[Held] = []
    for _ in range(data.draw(st.integers(1, 15))):
        action = data.draw(st.sampled_from(["new", "grow", "decode", "free"]))
        if action == "new":
            requests += [Held() for _ in range(data.draw(st.integers(1, 3)))]
        chosen = [request for request in requests if data.draw(st.booleans())]
        if action in ("new", "grow"):
            extend(allocator, chosen, [data.draw(st.integers(0, 3 * page_size)) for _ in chosen])
        elif action == "decode":
            decode(allocator, chosen)
        else:
            joined = [slot for request in chosen for slot in request.slots]
            allocator.free(np.array(joined, dtype=np.int64))
            requests = [request for request in requests if request not in chosen]
        check_layout(allocator, requests)


def extend(allocator: PagedAllocator, requests: list[Held], counts: list[int]) -> None:
    size = allocator.page_size
    prefix = [len(request.slots) for request in requests]
    seq = [before + count for before, count in zip(prefix, counts, strict=True)]
    needed = sum(pages(after, size) - pages(before, size) for before, after in zip(prefix, seq, strict=True)) * size
    assert allocator.extend_slots_needed(prefix, seq) == needed
    free_before = allocator.free_pages.tolist()
    slots = allocator.alloc_extend(prefix, seq, [request.last for request in requests])
    if needed > len(free_before) * size:
        assert slots is None
        assert allocator.free_pages.tolist() == free_before
        return
    assert slots is not None
    assert slots.dtype == np.int64
    assert len(slots) == sum(counts)
    for request, part in zip(requests, np.split(slots, np.cumsum(counts)[:-1]) if counts else [], strict=True):
        request.slots += part.tolist()


def decode(allocator: PagedAllocator, requests: list[Held]) -> None:
    size = allocator.page_size
    seq = [len(request.slots) + 1 for request in requests]
    needed = sum((length - 1) % size == 0 for length in seq) * size
    assert allocator.decode_slots_needed(seq) == needed
    free_before = allocator.free_pages.tolist()
    slots = allocator.alloc_decode(seq, [request.last for request in requests])
    if needed > len(free_before) * size:
        assert slots is None
        assert allocator.free_pages.tolist() == free_before
        return
    assert slots is not None
    for request, slot in zip(requests, slots.tolist(), strict=True):
        request.slots.append(slot)


@pytest.mark.parametrize(("length", "takes_page"), [(15, False), (16, True), (17, False)])
def test_decode_takes_a_page_where_the_last_one_is_full(length: int, takes_page: bool) -> None:
    allocator = PagedAllocator(64, 16)
    slots = allocator.alloc_extend([0], [length], [0])
    assert slots is not None
    before = allocator.num_free
    following = allocator.alloc_decode([length + 1], [slots[-1]])
    assert following is not None
    assert before - allocator.num_free == (16 if takes_page else 0)
    assert (following[0] == slots[-1] + 1) is not takes_page or following[0] % 16 == 0


def test_the_sink_is_never_handed_out_and_all_else_is() -> None:
    allocator = PagedAllocator(8, 1)
    slots = allocator.alloc_extend([0], [8], [0])
    assert slots is not None
    assert sorted(slots.tolist()) == list(range(1, 9))
    assert allocator.alloc_decode([1], [0]) is None


def test_slots_beyond_whole_pages_are_not_counted() -> None:
    allocator = PagedAllocator(40, 16)
    assert allocator.num_slots == allocator.num_free == 32


def test_checked_allocator_names_pages_freed_twice_and_changes_nothing() -> None:
    allocator = PagedAllocator(64, 16, check=True)
    slots = allocator.alloc_extend([0], [20], [0])
    assert slots is not None
    allocator.free(slots[:16])
    free = allocator.num_free
    with pytest.raises(AssertionError, match=r"pages \[1\] were freed twice"):
        allocator.free(slots)
    with pytest.raises(AssertionError, match="sink"):
        allocator.free([0])
    assert allocator.num_free == free


def test_freeing_a_token_frees_its_page_once() -> None:
    allocator = PagedAllocator(64, 16, check=True)
    slots = allocator.alloc_extend([0], [20], [0])
    assert slots is not None
    allocator.free([slots[3], slots[4], slots[17]])
    assert allocator.num_free == 64


def test_clear_takes_everything_back() -> None:
    allocator = PagedAllocator(64, 16, check=True)
    assert allocator.alloc_extend([0], [64], [0]) is not None
    allocator.clear()
    assert allocator.num_free == 64
    assert allocator.alloc_extend([0], [64], [0]) is not None


@pytest.mark.parametrize(("num_slots", "page_size"), [(15, 16), (0, 1), (4, 0)])
def test_a_pool_without_a_page_is_refused(num_slots: int, page_size: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        PagedAllocator(num_slots, page_size)
