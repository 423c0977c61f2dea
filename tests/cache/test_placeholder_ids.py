"""PlaceholderIds: equal ids mean equal digests."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hookline.cache.allocator import PagedAllocator
from hookline.cache.placeholder_ids import FIRST_PLACEHOLDER, PlaceholderIds
from hookline.cache.radix_cache import RadixCache
from hookline.testkit.properties import examples

digests = st.binary(min_size=32, max_size=32)


def alike(last: int) -> bytes:
    """Digests that agree in all that an id has room for."""
    return bytes(31) + bytes([last])


@examples(40)
@given(st.lists(st.tuples(digests, st.integers(1, 20)), min_size=1, max_size=8, unique_by=lambda item: item[0]))
def test_rows_of_all_items_differ_and_lie_above_every_vocabulary(items: list[tuple[bytes, int]]) -> None:
    table = PlaceholderIds()
    rows = np.concatenate([table.rows(digest, count) for digest, count in items])
    assert rows.dtype == np.int64
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() >= FIRST_PLACEHOLDER


def test_a_digest_keeps_its_ids_and_a_longer_item_begins_alike() -> None:
    table = PlaceholderIds()
    assert (table.rows(alike(1), 9)[:4] == table.rows(alike(1), 4)).all()


def test_digests_that_agree_in_the_bits_of_an_id_get_different_ids() -> None:
    table = PlaceholderIds()
    seen = [table.rows(alike(last), 5) for last in range(4)]
    assert len(np.unique(np.concatenate(seen))) == 20
    assert (table.rows(alike(2), 5) == seen[2]).all()


def test_the_last_number_is_followed_by_the_first() -> None:
    table = PlaceholderIds()
    full = b"\xff" * 8
    one, two = table.rows(full + bytes(24), 3), table.rows(full + b"\x01" + bytes(23), 3)
    assert two[0] == FIRST_PLACEHOLDER
    assert one[-1] < 2**63 - 1


def test_a_sweep_keeps_what_the_cache_or_a_request_knows() -> None:
    table = PlaceholderIds(sweep_size=3)
    kept, live, _gone = (table.rows(alike(last), 4) for last in range(3))
    assert table.is_full
    allocator = PagedAllocator(16, 1)
    cache = RadixCache(allocator)
    slots = allocator.alloc_extend([0], [3], [0])
    assert slots is not None
    cache.insert("home", [7, int(kept[0]), int(kept[1])], slots)
    table.sweep(cache.token_ids(), [alike(1)])
    assert len(table) == 2
    assert (table.rows(alike(0), 4) == kept).all()
    assert (table.rows(alike(1), 4) == live).all()
    assert not table.is_full
