"""What a grammar allows holds beside everything else that a request may ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarMatcher, MaskBatcher
from hookline.testkit.scheduling import EOS, Harness, letter
from tests.factories.fake_grammar import FAKE_GRAMMAR, FakeMatcher


def run(checkpoint: Path, overlap: bool, params: dict[str, Any], **harness: Any) -> tuple[list[int], str, object]:
    """Tokens, reason and match of a constrained request beside a free one."""
    running = Harness(checkpoint, plugins=[FAKE_GRAMMAR], overlap=overlap, **harness)
    running.add("free", [6] * 9, 12)
    running.add("a", [5] * 20, 9, **params)
    output = running.run()["a"]
    assert output.finish is not None
    running.assert_idle()
    return output.token_ids, output.finish.type, output.finish.matched


@pytest.mark.parametrize("overlap", [True, False])
class TestBesideOtherParameters:
    def test_ignore_eos_with_a_finite_grammar_ends(self, checkpoint: Path, overlap: bool) -> None:
        tokens, reason, _ = run(checkpoint, overlap, {"regex": "7 8", "ignore_eos": True})
        assert (tokens, reason) == ([7, 8, EOS], "stop")

    def test_a_grammar_that_ends_before_the_least_length_ends_the_output(self, checkpoint: Path, overlap: bool) -> None:
        tokens, reason, _ = run(checkpoint, overlap, {"regex": "7 8", "min_new_tokens": 6, "ignore_eos": False})
        assert (tokens, reason) == ([7, 8, EOS], "stop")

    def test_the_least_length_holds_where_the_grammar_can_go_on(self, checkpoint: Path, overlap: bool) -> None:
        places = f"{EOS}|7 {EOS}|8 9"
        tokens, reason, _ = run(checkpoint, overlap, {"regex": places, "min_new_tokens": 2, "ignore_eos": False})
        assert (tokens, reason) == ([7, 8, 9, EOS], "stop")

    def test_a_stop_string_ends_in_the_middle_of_the_grammar(self, checkpoint: Path, overlap: bool) -> None:
        tokens, reason, matched = run(checkpoint, overlap, {"regex": "7 8 9 10", "stop": letter(8) + letter(9)})
        assert (tokens, reason, matched) == ([7, 8, 9], "stop", letter(8) + letter(9))

    def test_a_stop_token_ends_in_the_middle_of_the_grammar(self, checkpoint: Path, overlap: bool) -> None:
        tokens, reason, matched = run(checkpoint, overlap, {"regex": "7 8 9 10", "stop_token_ids": [9]})
        assert (tokens, reason, matched) == ([7, 8, 9], "stop", 9)

    def test_a_prompt_in_chunks_changes_nothing(self, checkpoint: Path, overlap: bool) -> None:
        places = "7|8 9|10 11|12"
        whole = run(checkpoint, overlap, {"regex": places})
        assert run(checkpoint, overlap, {"regex": places}, chunk=4) == whole
        assert len(whole[0]) == 4

    def test_choices_of_one_prompt_have_matchers_of_their_own(self, checkpoint: Path, overlap: bool) -> None:
        harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR], overlap=overlap)
        for index in range(4):
            harness.add(f"c{index}", [5], 9, choice_index=index, regex="7|8|9|10 7|8|9|10", seed=3, temperature=1.0)
        outputs = harness.run()
        for output in outputs.values():
            assert len(output.token_ids) == 3
            assert set(output.token_ids[:2]) <= {7, 8, 9, 10}
            assert output.token_ids[2] == EOS


class Together(MaskBatcher):
    """Fills one after the other, and fails as a whole where a mask breaks."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def fill(
        self,
        matchers: Sequence[GrammarMatcher],
        bitmask_BW: npt.NDArray[np.int32],
        rows: Sequence[int],
        num_threads: int,
    ) -> list[RequestError | None]:
        self.sizes.append(len(rows))
        for matcher, row in zip(matchers, rows, strict=True):
            matcher.fill_bitmask(bitmask_BW, row)
        # One of them has a fault of its own.
        return [
            RequestError("no token", code="grammar_dead_end") if ends_here(matcher) else None for matcher in matchers
        ]


def ends_here(matcher: GrammarMatcher) -> bool:
    return isinstance(matcher, FakeMatcher) and matcher.accepted == [25, 26]


def test_masks_filled_together_are_those_filled_one_by_one(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """A row that fails is its own request's error, and so is what breaks the call for all."""
    monkeypatch.setattr("hookline.scheduler.masks._LEAST_BITS", 0)
    found = []
    batcher = Together()
    for batched in (False, True):
        part = property(lambda matcher: (batcher, matcher)) if batched else property(lambda matcher: None)
        monkeypatch.setattr(FakeMatcher, "in_batch", part)
        harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR], config={"grammar": {"grammar_workers": 0}})
        for index in range(7):
            source = {4: "breaks:mask"}.get(index, f"7|8|9 1{index} 30|31|32")
            harness.add(f"r{index}", [5, index], 9, regex=source, min_new_tokens=index % 3)
        if batched:
            harness.add("dead", [5, 9], 9, regex="25 26 27")
        outputs = harness.run(20_000)
        assert outputs["r4"].finish is not None
        assert outputs["r4"].finish.code == "grammar_failed"
        dead = outputs.pop("dead", None)
        assert dead is None or (dead.finish is not None and dead.finish.code == "grammar_dead_end")
        found.append({rid: (output.token_ids, output.reason) for rid, output in outputs.items()})
        harness.assert_idle()
    assert found[0] == found[1]
    assert max(batcher.sizes) > 4
