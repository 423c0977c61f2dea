"""The shipped logits processors pass the suite that plugin authors use."""

from __future__ import annotations

from typing import Any

from hookline.testkit.logits_processors import LogitsProcessorSuite

#: Bad for all of them.
_BAD: tuple[Any, ...] = (None, "nonsense", [], {}, {"unheard_of": 1})


class TestAllowedTokens(LogitsProcessorSuite):
    name = "allowed_tokens"
    good = ({"token_ids": [7, 3, 3]}, {"token_ids": [0, 31]})
    bad = (
        *_BAD,
        {"token_ids": []},
        {"token_ids": "12"},
        {"token_ids": [1, 32]},
        {"token_ids": [True]},
        {"token_ids": [1], "ids": [2]},
    )


class TestBadWords(LogitsProcessorSuite):
    name = "bad_words"
    good = ({"token_ids": [[1]]}, {"token_ids": [[1, 2], [3, 1, 2], [31]]})
    bad = (*_BAD, {"token_ids": []}, {"token_ids": [[]]}, {"token_ids": [[-1]]}, {"token_ids": [1]})


class TestNoRepeatNgram(LogitsProcessorSuite):
    name = "no_repeat_ngram"
    good = ({"size": 1}, {"size": 2}, {"size": 3, "window": 8, "allowed_token_ids": [2]})
    bad = (*_BAD, {"size": 0}, {"size": 1.5}, {"size": 2, "window": -1}, {"size": 2, "allowed_token_ids": [32]})
