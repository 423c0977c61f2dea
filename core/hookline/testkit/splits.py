"""Ways of cutting a text into pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import strategies as st


def all_ways(text: str, seed: int = 0) -> Iterator[list[str]]:
    """Whole, by character, in groups of a few lengths, and at random, with empty pieces in between."""
    yield [text]
    for size in (1, 2, 3, 7, 16):
        yield [text[at : at + size] for at in range(0, len(text), size)]
    rng = random.Random(seed)
    for _ in range(4):
        ends = sorted(rng.choices(range(len(text) + 1), k=min(8, len(text))))
        yield [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, list[str]]:
    """A text and one way of cutting it."""
    text = draw(texts)
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return text, [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def fragments(*parts: str) -> st.SearchStrategy[str]:
    """Texts made of the given parts in any order, so that rare sequences become common."""
    return st.lists(st.sampled_from(parts), max_size=14).map("".join)
