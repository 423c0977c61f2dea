"""What a task produces: one conversation, the thought and the reply that are right for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.draw import Draw
from training.scenes import Clip, Scene

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One conversation up to the turn to be answered, and the answer."""

    task: str
    messages: list[Message]
    reply: str
    thought: str
    media: tuple[Scene | Clip, ...] = ()  #: in the order of the conversation's content parts
    tools: list[dict[str, Any]] | None = None
    #: True if the item may follow other turns, or be followed by them, in one conversation
    chainable: bool = False
    #: True if the item has a right answer only with a thought, or only without one
    modes: tuple[bool, ...] = field(default=(True, False))


TaskFn = Callable[[Draw], Item]


def user(text: str, num_images: int = 0, num_videos: int = 0) -> Message:
    """A user message, its media before the text."""
    if not num_images and not num_videos:
        return {"role": "user", "content": text}
    parts: list[dict[str, str]] = [{"type": "image"} for _ in range(num_images)]
    parts += [{"type": "video"} for _ in range(num_videos)]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def question(task: str, text: str, reply: str, thought: str, *, media: Sequence[Scene | Clip] = ()) -> Item:
    """A single-turn item."""
    num_videos = sum(isinstance(m, Clip) for m in media)
    return Item(
        task=task,
        messages=[user(text, len(media) - num_videos, num_videos)],
        reply=reply,
        thought=thought,
        media=tuple(media),
        chainable=True,
    )


def tool_call(name: str, arguments: dict[str, Any]) -> Message:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool_call_text(calls: Sequence[Message]) -> str:
    """The text of tool calls in the qwen25 format, as the chat template writes them."""
    blocks = []
    for call in calls:
        function = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        blocks.append(f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {arguments}}}\n</tool_call>')
    return "\n".join(blocks)


def join_words(words: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
