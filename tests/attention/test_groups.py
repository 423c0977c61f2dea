"""How requests are grouped: everyone exactly once, and little padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hookline_attention.groups import CPU_GROUP_LIMIT, Span, group_spans, spans_of


def groups_of(spans: list[Span]) -> list[list[Span]]:
    return group_spans(spans, q_size=256, kv_size=128, limit=CPU_GROUP_LIMIT)


@given(
    lens=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=40),
    size=st.sampled_from([16, 256, 8192]),
)
def test_every_request_with_tokens_is_in_one_group(lens: list[tuple[int, int]], size: int) -> None:
    spans = spans_of([new for _, new in lens], [prefix + new for prefix, new in lens])
    groups = group_spans(spans, q_size=size, kv_size=size, limit=CPU_GROUP_LIMIT)
    members = [span for group in groups for span in group]
    assert sorted(span.index for span in members) == [i for i, (_, new) in enumerate(lens) if new]
    # Rows of the pass follow the order of the requests.
    assert [span.start for span in spans] == [sum(new for _, new in lens[: span.index]) for span in spans]
    for group in groups:
        assert [span.index for span in group] == sorted(span.index for span in group)
        # A lone token is never padded to several.
        assert len({span.q_len == 1 for span in group}) == 1


def test_decodes_of_similar_lengths_run_together() -> None:
    assert len(groups_of(spans_of([1] * 32, [60 + index // 2 for index in range(32)]))) == 1


def test_a_long_decode_does_not_pad_the_short_ones() -> None:
    spans = spans_of([1] * 9, [50] * 8 + [30_000])
    groups = groups_of(spans)
    assert [len(group) for group in groups] == [8, 1]


def test_long_extends_run_alone() -> None:
    spans = spans_of([512, 512, 4, 4], [512, 512, 4, 8])
    groups = groups_of(spans)
    assert sorted(len(group) for group in groups) == [1, 1, 2]


def test_a_group_of_several_gathers_a_bounded_number_of_keys() -> None:
    groups = groups_of(spans_of([1] * 100 + [2] * 20, [500] * 100 + [300] * 20))
    assert sum(len(group) for group in groups) == 120
    assert max(len(group) for group in groups) > 1
    assert max(len(group) * group[0].kv_len * 128 for group in groups) <= CPU_GROUP_LIMIT


def test_a_request_longer_than_the_bound_runs_alone() -> None:
    assert [len(group) for group in groups_of(spans_of([1, 1], [5000, 5000]))] == [1, 1]
