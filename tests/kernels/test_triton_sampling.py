"""Argmax, masks and draws of the Triton set against their definitions, over odd sizes and rows at fault."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.layers import sampling
from hookline_kernels.triton_draw import sample
from hookline_kernels.triton_draw.sample import sample_tokens
from hookline_kernels.triton_sampling.parts import BLOCK, MAX_PARTS, cut
from hookline_kernels.triton_sampling.rows import apply_bitmask, argmax, log_softmax

# numpy warns of what a GPU computes in silence.
pytestmark = [
    pytest.mark.filterwarnings("ignore:(overflow|invalid value|All-NaN slice) encountered:RuntimeWarning"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU here"),
]
VOCABS = st.sampled_from([1, 2, 31, 512, 1023, 1024, 1025, 2600])
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])


def random_rows(num_rows: int, vocab_size: int, seed: int, scale: float = 3.0, padding: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(num_rows, vocab_size + padding, generator=generator) * scale)[:, :vocab_size]


@given(num_rows=st.integers(1, 10_000), vocab_size=st.integers(1, 400_000))
def test_parts_cover_every_token_once(num_rows: int, vocab_size: int) -> None:
    parts, chunk = cut(num_rows, vocab_size)
    assert 1 <= parts <= MAX_PARTS
    assert chunk % BLOCK == 0
    assert (parts - 1) * chunk < vocab_size <= parts * chunk


@settings(deadline=None, max_examples=25)
@given(
    num_rows=st.integers(1, 5),
    vocab_size=VOCABS,
    dtype=DTYPES,
    seed=st.integers(0, 1000),
    padding=st.sampled_from([0, 3]),
    bad=st.sampled_from([None, math.nan, math.inf, -math.inf, -0.0]),
)
def test_argmax_is_that_of_torch(
    num_rows: int, vocab_size: int, dtype: torch.dtype, seed: int, padding: int, bad: float | None
) -> None:
    logits = random_rows(num_rows, vocab_size, seed, padding=padding).to(dtype)
    if bad is not None:
        logits[seed % num_rows, seed % vocab_size :: 2] = bad
    best, tokens = argmax(logits)
    expected = logits.max(-1)
    assert torch.equal(tokens, expected.indices)
    torch.testing.assert_close(best, expected.values.float(), atol=0, rtol=0, equal_nan=True)


def test_argmax_takes_the_first_of_equals_and_both_zeros_are_equal() -> None:
    logits = torch.full((2, 2500), -1.0)
    logits[0, [700, 2100]] = 5.0
    logits[1, 900], logits[1, 1800] = -0.0, 0.0
    assert argmax(logits)[1].tolist() == [700, 900]


@settings(deadline=None, max_examples=20)
@given(num_rows=st.integers(1, 4), vocab_size=VOCABS, seed=st.integers(0, 1000), spare=st.integers(0, 2))
def test_masks_forbid_what_their_bits_forbid(num_rows: int, vocab_size: int, seed: int, spare: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.rand(num_rows, vocab_size, generator=generator) < 0.5
    packed = np.packbits(allowed.numpy(), axis=1, bitorder="little")
    words = np.zeros((num_rows, (-(-vocab_size // 32) + spare) * 4), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    logits = random_rows(num_rows + 2, vocab_size, seed)
    rows = torch.randperm(num_rows + 2, generator=generator)[:num_rows]
    expected = logits.clone()
    expected[rows] = expected[rows].masked_fill(~allowed, -math.inf)
    for apply in (apply_bitmask, sampling.apply_bitmask):
        got = logits.clone()
        assert apply(got, rows, torch.from_numpy(words.view(np.int32))) is got
        assert torch.equal(got, expected)


def test_log_softmax_of_rows_with_forbidden_and_missing_numbers() -> None:
    logits = random_rows(4, 1500, 3)
    logits[0, ::3] = -math.inf
    logits[1, 7] = math.nan
    logits[2] = -math.inf
    torch.testing.assert_close(log_softmax(logits), torch.log_softmax(logits, -1), equal_nan=True)


# --- draws ---


def column(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def draw(logits: torch.Tensor, filters: dict[str, Any], uniforms: list[float], temperature: float = 1.0) -> list[int]:
    """Tokens of one row at each number, all in one call."""
    count = len(uniforms)
    rows = torch.zeros(count, dtype=torch.int64)
    given_ = {name: None if value is None else column(*[value] * count) for name, value in filters.items()}
    top_k = given_["top_k"]
    return sample_tokens(
        logits[None],
        logits.amax()[None],
        rows,
        column(*[temperature] * count),
        None if top_k is None else top_k.long(),
        given_["top_p"],
        given_["min_p"],
        column(*uniforms),
        logits.numel(),
    ).tolist()


@settings(deadline=None, max_examples=30)
@given(
    vocab_size=VOCABS,
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 0.1, 1.0, 6.0]),
    temperature=st.sampled_from([0.05, 0.7, 1.0, 3.0]),
    top_k=st.sampled_from([None, 1, 2, 40, 900, 5000]),
    top_p=st.sampled_from([None, 1e-6, 0.3, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([None, 0.0, 0.05, 1.0]),
    rounded=st.booleans(),
)
def test_draws_invert_the_distribution_that_the_filters_leave(
    vocab_size: int,
    seed: int,
    scale: float,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    rounded: bool,
) -> None:
    logits = random_rows(1, vocab_size, seed, scale)[0]
    if rounded:
        # As from a model in bfloat16: many are equal.
        logits = logits.bfloat16().float()
    uniforms = [0.0, 0.1, 0.45, 0.77, 0.9999]
    tokens = draw(logits, {"top_k": top_k, "top_p": top_p, "min_p": min_p}, uniforms, temperature)
    # The definitions in float64.
    probs = torch.softmax(logits.double() / temperature, -1)
    kept = probs.clone()
    if top_k is not None and top_k < vocab_size:
        kept[probs < probs.sort(descending=True).values[top_k - 1] * (1 - 1e-6)] = 0
    if top_p is not None and top_p < 1:
        order = kept.sort(descending=True).values
        within = int(((order.cumsum(0) - order) < top_p * kept.sum() * (1 - 1e-6)).sum())
        kept[kept < order[max(within, 1) - 1] * (1 - 1e-6)] = 0
    if min_p is not None:
        kept[probs < min_p * probs.max() * (1 - 1e-6)] = 0
    edges = kept.cumsum(0) / kept.sum()
    for uniform, token in zip(uniforms, tokens, strict=True):
        assert kept[token] > 0
        assert edges[token] > uniform - 1e-5
        assert token == 0 or edges[token - 1] <= uniform + 1e-5


@pytest.mark.parametrize(
    "filters",
    [
        {"top_k": None, "top_p": None, "min_p": None},
        {"top_k": [50, 7, 3000, 2, 900], "top_p": [0.9, 1.0, 0.8, 0.5, 0.99], "min_p": [0.0, 0.1, 0.0, 0.2, 0.0]},
    ],
)
def test_a_row_gives_the_same_token_alone_in_a_batch_and_cut_otherwise(
    filters: dict[str, list[float] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = random_rows(5, 3000, 1)
    uniform, temperature = column(0.3, 0.99, 0.5, 0.2, 0.7), column(1.0, 0.7, 1.5, 1.0, 2.0)
    columns = {name: None if values is None else column(*values) for name, values in filters.items()}

    def run(places: list[int]) -> list[int]:
        def pick(name: str) -> torch.Tensor | None:
            values = columns[name]
            return None if values is None else values[places]

        top_k = pick("top_k")
        rows = torch.tensor(places)
        return sample_tokens(
            logits, logits.amax(-1), rows, temperature[places], None if top_k is None else top_k.long(), pick("top_p"),
            pick("min_p"), uniform[places], 3000,
        ).tolist()  # fmt: skip

    together = run([0, 1, 2, 3, 4])
    assert [run([place])[0] for place in range(5)] == together
    for cut_so in ((1, 3 * BLOCK), (2, 2 * BLOCK)):
        monkeypatch.setattr(sample, "cut", lambda rows, vocab_size, cut_so=cut_so: cut_so)
        assert run([4, 2, 0, 1, 3]) == [together[place] for place in (4, 2, 0, 1, 3)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("filters", [{}, {"top_k": 4, "top_p": 0.5, "min_p": 0.1}, {"top_p": 0.9}])
def test_a_row_at_fault_gives_a_token_all_the_same(bad: float, filters: dict[str, float]) -> None:
    logits = random_rows(1, 1100, 0)[0]
    if bad == -math.inf:
        logits[:] = bad
    else:
        logits[5] = bad
    empty = {"top_k": None, "top_p": None, "min_p": None}
    (token,) = draw(logits, {**empty, **filters}, [0.5])
    assert 0 <= token < 1100


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = torch.full((2000,), -math.inf)
    logits[[3, 1999]] = torch.tensor([0.0, -2.0])
    for top_k, top_p in ((None, None), (50, None), (None, 0.9999)):
        tokens = draw(logits, {"top_k": top_k, "top_p": top_p, "min_p": None}, [0.0, 0.5, 1 - 2.0**-52])
        assert tokens == [3, 3, 1999]


def test_a_vocabulary_beyond_the_sums_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MAX_VOCAB", 10)
    assert draw(torch.arange(12.0), {"top_k": 1, "top_p": None, "min_p": None}, [0.5]) == [11]
