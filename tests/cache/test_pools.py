"""ReqToTokenPool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.cache.pools import ReqToTokenPool


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=40))
def test_rows_are_unique_and_come_back(num_rows: int, steps: list[bool]) -> None:
    pool = ReqToTokenPool(num_rows, 4)
    held: list[int] = []
    for is_alloc in steps:
        if is_alloc:
            row = pool.alloc()
            assert (row is None) == (len(held) == num_rows)
            if row is not None:
                assert row not in held
                assert 0 <= row < num_rows
                held.append(row)
        elif held:
            pool.free(held.pop(0))
        assert pool.num_free == num_rows - len(held)


def test_a_freed_row_rests_longest() -> None:
    pool = ReqToTokenPool(3, 4)
    first = pool.alloc()
    assert first is not None
    pool.free(first)
    assert [pool.alloc() for _ in range(3)][-1] == first


def test_a_row_freed_twice_is_a_bug() -> None:
    pool = ReqToTokenPool(2, 4)
    row = pool.alloc()
    assert row is not None
    pool.free(row)
    with pytest.raises(AssertionError, match=f"row {row} was freed twice"):
        pool.free(row)


def test_table_has_a_column_for_each_token() -> None:
    pool = ReqToTokenPool(2, 5)
    assert pool.table.shape == (2, 5)
    assert pool.table.dtype == np.int32


def test_clear_takes_all_rows_back() -> None:
    pool = ReqToTokenPool(2, 5)
    pool.alloc()
    pool.clear()
    assert pool.num_free == 2
