"""The shipped logits processors: what they forbid, and which parameters they refuse."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import NoBadWordsLogitsProcessor, NoRepeatNGramLogitsProcessor

from hookline.errors import RequestError
from hookline.interfaces.logits import LogitsProcessor
from hookline_logits.allowed_tokens import AllowedTokens
from hookline_logits.bad_words import BadWords
from hookline_logits.no_repeat_ngram import NoRepeatNgram
from hookline_logits.plugin import PLUGIN, hookline_logits_processors

VOCAB = 12


def left(processor: LogitsProcessor, params: Any, prompt: list[int], output: list[int]) -> set[int]:
    """The tokens that a processor leaves; those keep their logits."""
    logits = torch.linspace(-1, 1, VOCAB)
    before = logits.clone()
    processor.apply(logits, processor.validate(params, VOCAB), prompt, output)
    kept = logits > -torch.inf
    assert torch.equal(logits[kept], before[kept])
    return set(torch.nonzero(kept).flatten().tolist())


def test_hook_hookline_logits_processors() -> None:
    offers = hookline_logits_processors()
    assert PLUGIN.provides == ("logits_processors",)
    for spec in offers:
        module, _, attribute = spec.target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        assert issubclass(target, LogitsProcessor)
        with pytest.raises(RequestError, match=f"logits processor '{spec.name}' "):
            target().validate("nonsense", VOCAB)
    assert [spec.name for spec in offers] == ["allowed_tokens", "bad_words", "no_repeat_ngram"]


def test_allowed_tokens_leaves_the_given_ones() -> None:
    assert left(AllowedTokens(), {"token_ids": [7, 3, 3]}, [1], [2]) == {3, 7}


@settings(deadline=None, max_examples=60)
@given(
    words=st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3), min_size=1, max_size=4),
    text=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12),
    split=st.integers(0, 12),
)
def test_bad_words_forbids_what_transformers_forbids(words: list[list[int]], text: list[int], split: int) -> None:
    prompt, output = text[:split], text[split:]
    processor = NoBadWordsLogitsProcessor(words, eos_token_id=VOCAB + 1)
    scores = processor(torch.tensor([text]), torch.zeros(1, VOCAB))
    expected = set(torch.nonzero(scores[0] > -torch.inf).flatten().tolist())
    assert left(BadWords(), {"token_ids": words}, prompt, output) == expected


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 4),
    text=st.lists(st.integers(0, 3), min_size=1, max_size=25),
    split=st.integers(0, 25),
)
def test_no_repeat_ngram_forbids_what_transformers_forbids(size: int, text: list[int], split: int) -> None:
    scores = NoRepeatNGramLogitsProcessor(size)(torch.tensor([text]), torch.zeros(1, VOCAB))
    expected = set(torch.nonzero(scores[0] > -torch.inf).flatten().tolist())
    assert left(NoRepeatNgram(), {"size": size}, text[:split], text[split:]) == expected


def test_no_repeat_ngram_keeps_to_its_window_and_its_exceptions() -> None:
    text = [1, 2, 5, 5, 5, 1]
    assert 2 not in left(NoRepeatNgram(), {"size": 2}, text, [])
    assert 2 in left(NoRepeatNgram(), {"size": 2, "window": 4}, text, [])
    assert 2 in left(NoRepeatNgram(), {"size": 2, "allowed_token_ids": [2]}, text, [])


def test_no_repeat_ngram_ignores_placeholders_of_media() -> None:
    assert left(NoRepeatNgram(), {"size": 1}, [VOCAB + 9, 4], []) == set(range(VOCAB)) - {4}


@pytest.mark.parametrize(
    ("processor", "params", "message"),
    [
        (AllowedTokens(), None, r"needs an object with token_ids, not None"),
        (AllowedTokens(), {}, r"needs token_ids"),
        (AllowedTokens(), {"token_ids": []}, r"must be a list of token ids, not \[\]"),
        (AllowedTokens(), {"token_ids": "12"}, r"must be a list of token ids"),
        (AllowedTokens(), {"token_ids": [1, VOCAB]}, rf"token ids from 0 to {VOCAB - 1}, not {VOCAB}"),
        (AllowedTokens(), {"token_ids": [True]}, r"not True"),
        (AllowedTokens(), {"token_ids": [1], "ids": [2]}, r"does not know ids \(known: token_ids\)"),
        (BadWords(), {"token_ids": []}, r"takes 1 to 1024 lists"),
        (BadWords(), {"token_ids": [[]]}, r"must be a list of token ids"),
        (BadWords(), {"token_ids": [[-1]]}, r"not -1"),
        (NoRepeatNgram(), {"size": 0}, r"size must be an integer of at least 1, not 0"),
        (NoRepeatNgram(), {"size": 1.5}, r"not 1\.5"),
        (NoRepeatNgram(), {"size": 2, "window": -1}, r"window must be"),
    ],
)
def test_bad_parameters_are_refused(processor: LogitsProcessor, params: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        processor.validate(params, VOCAB)
    assert (error.value.param or "").startswith("logits_processors.")
