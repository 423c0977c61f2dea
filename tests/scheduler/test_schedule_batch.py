"""Columns stay in step with their requests, and arrays of a launched pass are never changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.batch.forward_mode import ForwardMode
from hookline.scheduler.kv_ledger import TableUpdate
from hookline.scheduler.req import Req
from hookline.scheduler.schedule_batch import Pass, ScheduleBatch
from tests.factories.reqs import make_req

_NOTHING = np.empty(0, dtype=np.int64)


def held(rid: str, row: int, seq_len: int) -> Req:
    req = make_req(rid, range(seq_len), max_new_tokens=row + 1)
    req.row, req.seq_len = row, seq_len
    return req


def assert_in_step(batch: ScheduleBatch) -> None:
    assert batch.rows.tolist() == [req.row for req in batch.reqs]
    assert batch.seq_lens.tolist() == [req.seq_len for req in batch.reqs]
    assert batch.end_lens.tolist() == [req.end_len for req in batch.reqs]
    columns = (batch.rows, batch.prefix_lens, batch.seq_lens, batch.end_lens, batch.adapters, batch.constrained)
    assert {len(column) for column in columns} == {len(batch)}


@given(
    operations=st.lists(
        st.one_of(
            st.tuples(st.just("merge"), st.integers(0, 4)),
            st.tuples(st.just("filter"), st.integers(0, 2**16)),
            st.tuples(st.just("advance"), st.just(0)),
        ),
        max_size=20,
    )
)
def test_any_sequence_of_changes_keeps_columns_and_requests_in_step(operations: list[tuple[str, int]]) -> None:
    batch, num_made = ScheduleBatch.of([]), 0
    for operation, number in operations:
        snapshot = batch.snapshot()
        before = (list(snapshot.reqs), snapshot.seq_lens.tolist(), snapshot.rows.tolist())
        if operation == "merge":
            batch.merge(ScheduleBatch.of([held(f"r{num_made + i}", num_made + i, i + 1) for i in range(number)]))
            num_made += number
        elif operation == "filter":
            batch.filter(np.array([bool(number >> i & 1) for i in range(len(batch))], dtype=np.bool_))
        else:
            batch.advance()
            for req in batch.reqs:
                req.seq_len += 1
            assert (batch.seq_lens - batch.prefix_lens == 1).all()
        assert_in_step(batch)
        assert (snapshot.reqs, snapshot.seq_lens.tolist(), snapshot.rows.tolist()) == before


def a_pass(batch: ScheduleBatch, num_extends: int, mode: ForwardMode) -> Pass:
    num_tokens = int((batch.seq_lens - batch.prefix_lens).sum())
    return Pass(
        mode=mode,
        batch=batch,
        num_extends=num_extends,
        out_cache_loc=np.arange(100, 100 + num_tokens),
        samples=[True] * len(batch),
    )


@pytest.mark.parametrize("planes", [1, 3])
def test_a_mixed_pass_lists_tokens_positions_and_futures(planes: int) -> None:
    extends = [make_req("x", [10, 11, 12, 13]), make_req("y", [20, 21])]
    extends[0].row, extends[0].seq_len = 3, 4
    extends[1].row, extends[1].seq_len = 1, 2
    batch = ScheduleBatch.of(extends, [1, 0])
    decodes = ScheduleBatch.of([held("z", 7, 5)])
    decodes.advance()
    batch.merge(decodes)
    update = TableUpdate(rows=_NOTHING, cols=_NOTHING, slots=_NOTHING, freed_rows=[9])
    planned = a_pass(batch, 2, ForwardMode.MIXED)
    planned.step = 4
    worker_batch = planned.worker_batch(update, planes)
    assert worker_batch.input_ids.tolist() == [11, 12, 13, 20, 21, 0]
    assert worker_batch.positions.tolist() == [[1, 2, 3, 0, 1, 5]] * planes
    assert worker_batch.future_index.tolist() == [5]
    assert worker_batch.future_rows.tolist() == [7]
    assert worker_batch.req_pool_indices.tolist() == [3, 1, 7]
    assert worker_batch.adapters is None
    assert (worker_batch.step, worker_batch.freed_rows) == (4, [9])


def test_tokens_of_a_restart_include_the_output() -> None:
    req = make_req("x", [10, 11])
    req.output_ids.extend([30, 31, 32])
    assert req.token_ids.tolist() == [10, 11, 30, 31, 32]
    req.output_ids.append(33)
    assert req.token_ids.tolist() == [10, 11, 30, 31, 32, 33]
    assert req.num_tokens == 6
    assert req.max_cached_tokens == 5
