"""What a grammar allows holds beside everything else that a request may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hookline.testkit.scheduling import EOS, Harness, letter
from tests.factories.fake_grammar import FAKE_GRAMMAR


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


def test_many_threads_fill_what_one_does(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """A row that fails is its own request's error, in whichever thread it is."""
    monkeypatch.setattr("hookline.scheduler.masks._LEAST_BITS", 0)
    found = []
    for num_threads in (1, 3):
        monkeypatch.setattr("hookline.scheduler.factory._mask_threads", lambda count=num_threads: count)
        harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR], config={"grammar": {"grammar_workers": 0}})
        for index in range(7):
            source = "breaks:mask" if index == 4 else f"7|8|9 1{index} 30|31|32"
            harness.add(f"r{index}", [5, index], 9, regex=source, min_new_tokens=index % 3)
        outputs = harness.run(20_000)
        assert outputs["r4"].finish is not None
        assert outputs["r4"].finish.code == "grammar_failed"
        found.append({rid: (output.token_ids, output.reason) for rid, output in outputs.items()})
        harness.assert_idle()
    assert found[0] == found[1]
