"""Masks that the library fills together are those that it fills one by one."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from hookline.testkit.grammar_walks import environment
from hookline.testkit.vocabularies import byte_level
from hookline_grammar.llguidance import LLGuidanceBackend
from hookline_grammar.llguidance_matcher import LLGuidanceMatcher

SCHEMAS = (
    '{"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}',
    '{"type": "array", "items": {"type": "integer"}, "maxItems": 2}',
    '{"enum": ["x", "xy", 7]}',
    "true",
)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_walk_has_the_same_masks(num_threads: int) -> None:
    """To the end of each document and beyond, where the library itself has no mask any more."""
    backend = LLGuidanceBackend(environment(byte_level()))
    size, random = backend.env.vocab_size, Random(0)
    matchers = [backend.compile("json_schema", SCHEMAS[index % 4]).matcher() for index in range(9)]
    num_words = -(-size // 32)
    num_ended = 0
    for _ in range(40):
        alone_BW, together_BW = np.zeros((9, num_words), np.int32), np.full((9, num_words), -1, np.int32)
        for row, matcher in enumerate(matchers):
            matcher.fill_bitmask(alone_BW, row)
        rows = list(range(9))
        random.shuffle(rows)
        batcher, _ = matchers[0].in_batch
        assert all(matcher.in_batch == (batcher, matcher) for matcher in matchers)
        errors = batcher.fill([matchers[row] for row in rows], together_BW, rows, num_threads)
        assert errors == [None] * 9
        assert np.array_equal(alone_BW, together_BW)
        for matcher, mask_W in zip(matchers, alone_BW, strict=True):
            bits = np.unpackbits(mask_W.view(np.uint8), bitorder="little")
            num_ended += matcher.is_terminated or not matcher.accept_token(random.choice(np.flatnonzero(bits).tolist()))
    assert num_ended > 9


def test_a_grammar_without_a_way_on_is_its_own_error() -> None:
    backend = LLGuidanceBackend(environment(byte_level(), ends=False))
    ended, going = (backend.compile("choice", '["a"]').matcher() for _ in range(2))
    assert isinstance(ended, LLGuidanceMatcher)
    assert ended.accept_token(byte_level().encode("a")[0])
    mask_BW = np.zeros((2, -(-backend.env.vocab_size // 32)), np.int32)
    first, second = ended.in_batch[0].fill([ended, going], mask_BW, [0, 1], 2)
    assert first is not None
    assert first.code == "grammar_dead_end"
    assert second is None
    assert mask_BW[1].any()
