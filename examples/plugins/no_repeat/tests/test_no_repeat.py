"""The conformance suite of logits processors, and transformers' processor as the judge of this one."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor

from hookline.testkit.logits_processors import LogitsProcessorSuite
from hookline.testkit.properties import examples


class TestNoRepeat(LogitsProcessorSuite):
    name = "no-repeat"
    good = ({"size": 2}, {"size": 3, "output_only": True})
    bad = (None, [], "2", {}, {"size": 1}, {"size": "2"}, {"size": 2.5}, {"size": True}, {"size": 2, "window": 5})

    @examples(60)
    @given(
        size=st.integers(2, 4),
        prompt=st.lists(st.integers(0, 3), min_size=1, max_size=12),
        output=st.lists(st.integers(0, 3), max_size=12),
    )
    def test_forbids_what_transformers_forbids(self, size: int, prompt: list[int], output: list[int]) -> None:
        judge = NoRepeatNGramLogitsProcessor(size)
        whole = judge(torch.tensor([prompt + output]), self.logits())[0]
        assert torch.equal(self.applied({"size": size}, (prompt, output)), whole)
        if output:
            alone = judge(torch.tensor([output]), self.logits())[0]
            assert torch.equal(self.applied({"size": size, "output_only": True}, (prompt, output)), alone)

    def test_a_text_that_holds_every_pair_goes_on(self) -> None:
        every_pair = [token for other in range(self.vocab_size) for token in (0, other)]
        logits_V = self.applied({"size": 2}, ([*every_pair, 0], []))
        assert torch.equal(logits_V, self.logits()[0])
