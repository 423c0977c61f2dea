"""PoolerSuite: one vector for a prompt, however its computation was cut and whatever ran beside it.

Shape letters: T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hookline.interfaces.pooling import Pooler, PoolerSpec
from hookline.testkit.offer_suite import OfferSuite
from hookline.testkit.properties import examples

HIDDEN = 24


def prompts() -> st.SearchStrategy[list[int]]:
    """Lengths of the chunks in which a prompt was computed."""
    return st.lists(st.integers(1, 9), min_size=1, max_size=6)


def states(num_tokens: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random hidden states [T, H] whose features differ in size and in their mean, as those of models do."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(num_tokens, HIDDEN, generator=generator) * torch.linspace(0.1, 8.0, HIDDEN)
    return (wide + torch.linspace(-3.0, 3.0, HIDDEN)).to(dtype)


class PoolerSuite(OfferSuite[PoolerSpec]):
    """Chunks, batch mates, dtypes. Add a test of your own for the vector that yours promises; see ``pool``."""

    kind = "poolers"

    #: How far float32 results of different cuts of a prompt may differ, relative to the largest value.
    tolerance: ClassVar[float] = 1e-5

    @classmethod
    def pooler(cls) -> Pooler:
        """A pooler as the worker makes one for each request."""
        pooler = cls.target()()
        assert isinstance(pooler, Pooler), "the target must be a subclass of Pooler"
        return pooler

    @classmethod
    @torch.inference_mode()
    def pool(cls, hidden_TH: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """The vector [H] of a prompt that is computed in chunks of the given sizes; ``None``: in one."""
        pooler = cls.pooler()
        chunks = torch.split(hidden_TH, [hidden_TH.shape[0]] if sizes is None else list(sizes))
        for index, chunk in enumerate(chunks):
            pooler.update(chunk, index == 0, index == len(chunks) - 1)
        return pooler.result()

    @classmethod
    def assert_close(cls, got: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(got, expected, atol=(tolerance or cls.tolerance) * scale, rtol=0)

    # --- the vector ---

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("num_tokens", [1, 2, 17])
    def test_the_vector_is_float32_and_as_wide_as_the_states(self, dtype: torch.dtype, num_tokens: int) -> None:
        vector = self.pool(states(num_tokens, dtype=dtype))
        assert vector.dtype == torch.float32
        assert vector.shape == (HIDDEN,)
        assert bool(vector.isfinite().all())

    def test_the_vector_is_not_normalised(self) -> None:
        """Whether it is normalised is the request's choice, made after it was cut to its dimensions."""
        hidden = states(12)
        norms = [float(self.pool(hidden * factor).norm()) for factor in (1.0, 3.0)]
        assert norms != pytest.approx([1.0, 1.0])

    def test_the_vector_depends_on_the_states(self) -> None:
        assert not torch.equal(self.pool(states(12)), self.pool(states(12, seed=1)))

    # --- chunks ---

    @examples(40)
    @given(sizes=prompts())
    def test_chunks_do_not_change_the_vector(self, sizes: list[int]) -> None:
        hidden = states(sum(sizes))
        self.assert_close(self.pool(hidden, sizes), self.pool(hidden))

    def test_many_chunks_of_half_precision_do_not_lose_digits(self) -> None:
        """What is kept between chunks is kept in float32: bfloat16 sums stop growing after 256 equal summands."""
        hidden = states(600, dtype=torch.bfloat16)
        self.assert_close(self.pool(hidden, [1] * 600), self.pool(hidden), tolerance=1e-4)
        self.assert_close(self.pool(hidden), self.pool(hidden.float()), tolerance=1e-4)

    @examples(40)
    @given(sizes=prompts(), data=st.data())
    def test_a_cached_prefix_does_not_change_the_vector(self, sizes: list[int], data: st.DataObject) -> None:
        """Without ``needs_all_tokens`` the prefix cache may keep any prefix of the prompt from the pooler."""
        if self.offer().spec.needs_all_tokens:
            pytest.skip("declares needs_all_tokens: no prefix is reused")
        hidden = states(sum(sizes))
        cached = data.draw(st.integers(0, hidden.shape[0] - 1))
        self.assert_close(self.pool(hidden[cached:]), self.pool(hidden))

    # --- other requests ---

    @examples(40)
    @given(cuts=st.lists(prompts(), min_size=2, max_size=4))
    @torch.inference_mode()
    def test_requests_of_one_pass_do_not_mix(self, cuts: list[list[int]]) -> None:
        """Several requests under way at once, their chunks side by side in one tensor, which is then reused."""
        hidden = [states(sum(sizes), seed=seed) for seed, sizes in enumerate(cuts)]
        chunks = [torch.split(rows, sizes) for rows, sizes in zip(hidden, cuts, strict=True)]
        poolers = [self.pooler() for _ in cuts]
        vectors: dict[int, Tensor] = {}
        for step in range(max(map(len, chunks))):
            running = [index for index, own in enumerate(chunks) if step < len(own)]
            pass_TH = torch.cat([chunks[index][step] for index in running])
            parts = torch.split(pass_TH, [chunks[index][step].shape[0] for index in running])
            for index, part in zip(running, parts, strict=True):
                is_last = step == len(chunks[index]) - 1
                poolers[index].update(part, step == 0, is_last)
                if is_last:
                    vectors[index] = poolers[index].result()
            pass_TH.fill_(torch.nan)
        for index, rows in enumerate(hidden):
            self.assert_close(vectors[index], self.pool(rows))

    def test_a_request_leaves_nothing_to_the_next(self) -> None:
        expected = self.pool(states(5)).clone()
        self.pool(states(9, seed=1) * 100, [4, 5])
        assert torch.equal(self.pool(states(5)), expected)

    def test_a_request_that_was_aborted_leaves_nothing_to_the_next(self) -> None:
        expected = self.pool(states(5)).clone()
        with torch.inference_mode():
            self.pooler().update(states(9, seed=1) * 100, True, False)
        assert torch.equal(self.pool(states(5)), expected)

    def test_the_states_are_left_as_they_were(self) -> None:
        """Other rows of the pass, and its logits, are computed from the same tensor."""
        hidden = states(9)
        self.pool(hidden, [4, 5])
        assert torch.equal(hidden, states(9))
