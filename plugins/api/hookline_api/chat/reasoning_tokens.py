"""How many tokens of an answer were reasoning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from hookline.interfaces.api import OutputParser, Serving
from hookline_api.chat.token_spans import TokenSpans

#: Tokens after which other requests get their turn.
_BATCH = 512


async def count_reasoning_tokens(
    serving: Serving, make_parser: Callable[[], OutputParser], text: str, token_ids: Sequence[int]
) -> int:
    """Tokens of the reasoning in an answer, the markers around it included.

    ``make_parser`` gives a fresh one of the answer that looks for no calls. The count depends on the answer alone,
    not on how it came.
    """
    parser = make_parser()
    found = [parser.feed(text), parser.finish()]
    content = "".join(rest.content for _, rest in found)
    spans = TokenSpans(serving)
    for start in range(0, len(token_ids), _BATCH):
        spans.add(token_ids[start : start + _BATCH])
        await asyncio.sleep(0)
    pieces = spans.cut(text, is_last=True)
    if text.endswith(content):
        return _tokens_before(len(text) - len(content), pieces)
    return await _by_token(make_parser(), pieces)


def _tokens_before(end: int, pieces: Iterable[tuple[str, int]]) -> int:
    """Tokens whose text begins before ``end``."""
    count = position = 0
    for piece, num_tokens in pieces:
        if position >= end:
            break
        count += num_tokens
        position += len(piece)
    return count


async def _by_token(parser: OutputParser, pieces: Iterable[tuple[str, int]]) -> int:
    """For formats where reasoning and content take turns: each token is of the kind that was last seen."""
    count = 0
    is_reasoning = True
    for number, (piece, num_tokens) in enumerate(pieces):
        if number % _BATCH == 0:
            await asyncio.sleep(0)
        if piece:
            reasoning, rest = parser.feed(piece)
            if reasoning.reasoning or rest.content:
                is_reasoning = bool(reasoning.reasoning)
            count += num_tokens * is_reasoning
    return count
