"""Choosing a tool and its arguments, two calls, no tool that fits, and answering from a result."""

from __future__ import annotations

import json
import random
from typing import Any

from training.draw import OPENERS, Draw, NoPhrasingError, Split
from training.items import Item, Message, TaskFn, join_words, tool_call, tool_call_text, user
from training.names import any_word
from training.tasks.tool_library import Tool, Value, library, made_up_tool

NO_TOOL = "None of the tools can do that."
SYSTEM = (
    "You are a helpful assistant.",
    "You can call tools.",
    "Use a tool when one fits.",
    "You are an assistant with tools.",
)
JOINERS = (" and ", " Then: ", " Also: ", " And then: ")


def draw_tools(draw: Draw, low: int = 1, high: int = 4) -> list[Tool]:
    """Different tools. At least one has an argument of many values, so that calls can be split."""
    rng = draw.rng
    while True:
        tools = _some_tools(rng, low, high)
        if any(p.name in _OPEN_ENDED for tool in tools for p in tool.params):
            return tools


_OPEN_ENDED = frozenset(["city", "location", "place", "minutes", "text", "amount", "product", "title", "label", "id"])


def _some_tools(rng: random.Random, low: int, high: int) -> list[Tool]:
    tools = rng.sample(library(rng), rng.randint(low, high))
    for i in range(len(tools)):
        if rng.random() < 0.35:
            tools[i] = made_up_tool(rng)
    return list({tool.name: tool for tool in tools}.values())


def draw_call(draw: Draw, tools: list[Tool]) -> tuple[Tool, dict[str, Value]]:
    """One of the tools with arguments; both together are the content that is split."""

    def make() -> tuple[Tool, dict[str, Value]]:
        tool = draw.rng.choice(tools)
        return tool, {param.name: param.value(draw.rng) for param in tool.params}

    def key(call: tuple[Tool, dict[str, Value]]) -> str:
        return f"{call[0].description} {list(call[1].values())}"

    return draw.until("call", make, key)


def ask(draw: Draw, tool: Tool, arguments: dict[str, Value], *, second: bool = False) -> str:
    """What the user says. A second ask follows another in one message, without an opener.

    The bare phrasings of the training side serve as first and as second asks, so a held-out ask
    always has an opener or a closer.
    """
    held_out = draw.split is Split.HELD_OUT
    slots: dict[str, Any] = dict(arguments)
    return draw.phrase(
        f"tool_{tool.description}",
        tool.asks,
        wrap=held_out or not second,
        bare=not held_out,
        openers=() if second else OPENERS,
        **slots,
    )


def tool_choice(draw: Draw) -> Item:
    return _retried(_tool_choice, draw)


def _retried(make: TaskFn, draw: Draw) -> Item:
    """An item, drawn anew if a tool has no phrasing on this side of the split."""
    while True:
        try:
            return make(draw)
        except NoPhrasingError:
            continue


def _tool_choice(draw: Draw) -> Item:
    which = draw.rng.choice(("one", "one", "one", "two", "none"))
    tools = draw_tools(draw, 2 if which == "none" else 1)
    if which == "none":
        return _no_tool(draw, tools)
    chosen, arguments = draw_call(draw, tools)
    text = ask(draw, chosen, arguments)
    calls = [tool_call(chosen.name, arguments)]
    if which == "two":
        second, more = draw_call(draw, tools)
        # Two equal calls would be one.
        if second.name == chosen.name and more == arguments:
            return _tool_choice(draw)
        text = text.rstrip(".?") + draw.rng.choice(JOINERS) + ask(draw, second, more, second=True)
        calls.append(tool_call(second.name, more))
    names = " and ".join(dict.fromkeys(call["function"]["name"] for call in calls))
    return Item(
        task="tool_call",
        messages=[*_system(draw), user(text)],
        tools=[tool.schema() for tool in tools],
        reply=tool_call_text(calls),
        thought=f"I call {names}.",
    )


def _no_tool(draw: Draw, tools: list[Tool]) -> Item:
    left_out, arguments = draw_call(draw, tools)
    kept = [tool for tool in tools if tool.description != left_out.description]
    if not kept:
        return _tool_choice(draw)
    text = ask(draw, left_out, arguments)
    return Item(
        task="tool_call",
        messages=[*_system(draw), user(text)],
        tools=[tool.schema() for tool in kept],
        reply=NO_TOOL,
        thought="No tool fits.",
    )


def tool_result(draw: Draw) -> Item:
    """The last turn after one tool result, or after two."""
    return _retried(_tool_result, draw)


def _tool_result(draw: Draw) -> Item:
    rng = draw.rng
    tools = draw_tools(draw)
    chosen = [draw_call(draw, tools) for _ in range(rng.choice((1, 1, 2)))]
    calls, contents, replies, asked = [], [], [], []
    for i, (tool, arguments) in enumerate(chosen):
        asked.append(ask(draw, tool, arguments, second=i > 0))
        calls.append(tool_call(tool.name, arguments))
        content, reply = _result_and_reply(draw, tool, arguments)
        contents.append(content)
        replies.append(reply)
    if len(chosen) == 2:
        asked[0] = asked[0].rstrip(".?") + rng.choice(JOINERS)
    called: Message = {"role": "assistant", "content": "", "tool_calls": calls}
    if draw.chance(0.5):
        names = " and ".join(dict.fromkeys(tool.name for tool, _ in chosen))
        called["reasoning_content"] = f"I call {names}."
    results: list[Message] = [{"role": "tool", "content": content} for content in contents]
    return Item(
        task="tool_result",
        messages=[*_system(draw), user("".join(asked)), called, *results],
        tools=[tool.schema() for tool in tools],
        reply=" ".join(replies),
        thought="I read the result.",
    )


def _result_and_reply(draw: Draw, tool: Tool, arguments: dict[str, Value]) -> tuple[str, str]:
    """What a tool returns, and the sentence made of it."""
    rng = draw.rng
    if draw.chance(0.15):
        said = draw.until("said", lambda: " ".join(any_word(rng) for _ in range(rng.randint(2, 8))))
        return said, f"The tool says: {said}"
    fields = tool.result(rng)
    # A result that is only a status word has too few values to be split.
    if set(fields) != {"status"}:
        fields = draw.until("result", lambda: tool.result(rng), json.dumps)
    content = json.dumps(fields, ensure_ascii=False)
    if tool.answer is not None:
        return content, tool.answer.format(**arguments, **fields)
    listed = join_words([f"{key} {value}" for key, value in fields.items()])
    return content, f"{tool.name} reports {listed}."


def _system(draw: Draw) -> list[Message]:
    return [{"role": "system", "content": draw.rng.choice(SYSTEM)}] if draw.chance(0.4) else []


def plain_with_tools(draw: Draw, plain: Item) -> Item:
    """A plain item asked while tools are offered: it is answered as without them."""
    tools: list[dict[str, Any]] = [tool.schema() for tool in draw_tools(draw, 1, 3)]
    return Item(
        task=plain.task,
        messages=[*_system(draw), *plain.messages],
        tools=tools,
        reply=plain.reply,
        thought=plain.thought,
        media=plain.media,
        modes=plain.modes,
    )
