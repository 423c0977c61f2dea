"""The generator's split: what is held out is never trained on, and both sides exist."""

from __future__ import annotations

import collections

import pytest

from training.draw import Draw, Split, phrase_key, split_of
from training.tasks.registry import all_tasks
from training.tasks.talk import said_twice, talk

NUM_DRAWS = 40


def drawn(split: Split) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """All phrasings and contents of a few items of every task on one side."""
    phrasings: set[tuple[str, str]] = set()
    contents: set[tuple[str, str]] = set()
    for name, task in all_tasks().items():
        for i in range(NUM_DRAWS):
            draw = Draw(f"split test {name} {i}", split)
            task.make(draw)
            phrasings.update(draw.phrasings)
            contents.update(draw.contents)
    return phrasings, contents


def test_no_phrasing_and_no_content_crosses_the_split() -> None:
    trained_phrasings, trained_contents = drawn(Split.TRAIN)
    held_phrasings, held_contents = drawn(Split.HELD_OUT)
    assert len(held_phrasings) > 300
    assert len(held_contents) > 300
    assert not trained_phrasings & held_phrasings
    assert not trained_contents & held_contents


def test_contents_of_every_kind_are_split() -> None:
    kinds = collections.Counter(kind for kind, _ in drawn(Split.HELD_OUT)[1])
    assert {"scene", "clip", "pair", "words", "call", "record_person", "told"} <= set(kinds)


def test_a_content_is_on_the_same_side_every_time() -> None:
    assert split_of("pair", "3 4") is split_of("pair", "3 4")
    sides = collections.Counter(split_of("pair", f"{i} {j}") for i in range(60) for j in range(60))
    assert 0.09 < sides[Split.HELD_OUT] / 3600 < 0.15


def test_case_and_punctuation_make_no_new_phrasing() -> None:
    assert phrase_key("What is <a> + <b>?") == phrase_key("what is <a>  <b>")


def test_small_talk_that_two_grammars_can_say_is_never_held_out() -> None:
    said = {
        split: {phrase_key(str(talk(Draw(f"talk {i}", split)).messages[0]["content"])) for i in range(2000)}
        for split in Split
    }
    assert not said[Split.TRAIN] & said[Split.HELD_OUT]
    assert said_twice() & said[Split.TRAIN]


@pytest.mark.parametrize("split", list(Split))
def test_the_same_seed_gives_the_same_item(split: Split) -> None:
    for task in all_tasks().values():
        assert task.make(Draw("seed", split)) == task.make(Draw("seed", split))
