"""How requests are grouped: everyone exactly once, and little padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hookline_attention.groups import group_spans, spans_of


@given(
    lens=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=40),
    size=st.sampled_from([16, 256, 8192]),
)
def test_every_request_with_tokens_is_in_one_group(lens: list[tuple[int, int]], size: int) -> None:
    spans = spans_of([new for _, new in lens], [prefix + new for prefix, new in lens])
    groups = group_spans(spans, q_size=size, kv_size=size)
    members = [span for group in groups for span in group]
    assert sorted(span.index for span in members) == [i for i, (_, new) in enumerate(lens) if new]
    # Rows of the pass follow the order of the requests.
    assert [span.start for span in spans] == [sum(new for _, new in lens[: span.index]) for span in spans]
    for group in groups:
        assert [span.index for span in group] == sorted(span.index for span in group)
        # A lone token is never padded to several.
        assert len({span.q_len == 1 for span in group}) == 1


def test_decodes_of_similar_lengths_run_together() -> None:
    spans = spans_of([1] * 32, [100 + index for index in range(32)])
    assert len(group_spans(spans, q_size=256, kv_size=128)) == 1


def test_a_long_decode_does_not_pad_the_short_ones() -> None:
    spans = spans_of([1] * 9, [50] * 8 + [30_000])
    groups = group_spans(spans, q_size=256, kv_size=128)
    assert [len(group) for group in groups] == [8, 1]


def test_long_extends_run_alone() -> None:
    spans = spans_of([512, 512, 4, 4], [512, 512, 4, 8])
    groups = group_spans(spans, q_size=256, kv_size=128)
    assert sorted(len(group) for group in groups) == [1, 1, 2]


def test_a_group_gathers_no_more_than_a_bounded_number_of_keys() -> None:
    spans = spans_of([1] * 100, [5000] * 100)
    groups = group_spans(spans, q_size=256, kv_size=128)
    assert sum(len(group) for group in groups) == 100
    assert max(len(group) * 5000 * 128 for group in groups) <= 8_000_000
