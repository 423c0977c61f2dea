"""``/v1/messages``: the next message of a conversation, whole or as events."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.api import Chunk, Serving
from hookline.messages.outputs import FinishReason, RequestStats
from hookline_api.anthropic.blocks import BlockWriter
from hookline_api.anthropic.bodies import ConversationBody, MessagesBody
from hookline_api.anthropic.conversation import chat_messages, read_wish
from hookline_api.chat.media import read_media_params
from hookline_api.chat.reader import ChoiceReader
from hookline_api.chat.thinking import can_bound
from hookline_api.chat.turn import ChatTurn, ChatWish, render
from hookline_api.typed_events import typed_event

#: Anthropic's words for the ways in which the engine ends a choice.
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "abort": "pause_turn"}


class MessagesAnswer:
    """The answer to one request. Made by ``prepare``."""

    def __init__(self, body: MessagesBody, turn: ChatTurn, *, ignored: tuple[str, ...]) -> None:
        self._body = body
        self._turn = turn
        self._id = f"msg_{uuid.uuid4().hex}"
        self._reader = turn.reader(by_token=True)
        self._writer = BlockWriter()
        #: Fields of the request that nothing here can heed.
        self.ignored = ignored

    @classmethod
    async def prepare(cls, serving: Serving, body: MessagesBody) -> MessagesAnswer:
        """Check and render the conversation. Raises ``RequestError`` for anything that is wrong with the request."""
        sampling = body.sampling_overrides()
        ignored: tuple[str, ...] = ()
        budget = body.thinking_tokens()
        if budget is not None:
            if can_bound(serving):
                sampling["max_thinking_tokens"] = budget
            else:
                ignored = ("thinking.budget_tokens",)
        wish = _wish(
            body,
            sampling=sampling,
            stream=bool(body.stream),
            priority=body.priority,
            cache_salt=body.cache_salt,
            extra_key=body.extra_key,
        )
        return cls(body, await ChatTurn.prepare(serving, wish), ignored=ignored)

    async def whole(self) -> dict[str, Any]:
        """The message."""
        stats, finish = RequestStats(0, 0, 0), FinishReason(type="stop")
        async with aclosing(self._turn.chunks()) as chunks:
            async for chunk in chunks:
                await self._write(chunk)
                stats, finish = chunk.stats, chunk.finish_reason or finish
        return {
            **self._head(),
            "content": self._writer.content,
            **_ending(self._body, self._reader, finish),
            "usage": await self._usage(stats),
        }

    async def events(self) -> AsyncGenerator[bytes]:
        """Events from ``message_start`` to ``message_stop``."""
        has_started = False
        async with aclosing(self._turn.chunks()) as chunks:
            async for chunk in chunks:
                events = []
                if not has_started:
                    has_started = True
                    events += [self._start(chunk.stats), {"type": "ping"}]
                events += await self._write(chunk)
                if chunk.finish_reason is not None:
                    ending = _ending(self._body, self._reader, chunk.finish_reason)
                    usage = await self._usage(chunk.stats)
                    events += [{"type": "message_delta", "delta": ending, "usage": usage}, {"type": "message_stop"}]
                if events:
                    yield b"".join(map(typed_event, events))

    async def _write(self, chunk: Chunk) -> list[dict[str, Any]]:
        deltas = await self._turn.deltas(self._reader, chunk)
        events = [event for delta in deltas for event in self._writer.write(delta)]
        if chunk.finish_reason is not None:
            events += self._writer.close()
        return events

    def _start(self, stats: RequestStats) -> dict[str, Any]:
        usage = {**_input_usage(stats), "output_tokens": 0}
        message = {**self._head(), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return {"type": "message_start", "message": message}

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self._body.model}

    async def _usage(self, stats: RequestStats) -> dict[str, Any]:
        thinking = await self._turn.num_reasoning_tokens(self._reader)
        return {
            **_input_usage(stats),
            "output_tokens": stats.completion_tokens,
            "output_tokens_details": {"thinking_tokens": thinking},
        }


async def count_tokens(serving: Serving, body: ConversationBody) -> dict[str, Any]:
    """The ``count_tokens`` object: tokens of the prompt that the conversation makes."""
    serving.check_model(body.model)
    rendered = await render(serving, _wish(body))
    return {"input_tokens": len(rendered.input_ids)}


def _wish(body: ConversationBody, **fields: Any) -> ChatWish:
    messages = chat_messages(body.system, body.messages)
    # A last message of the assistant is the beginning of the answer.
    is_begun = messages[-1]["role"] == "assistant"
    if is_begun and messages[-1].get("tool_calls"):
        raise RequestError("the tool_use blocks of the last message need tool_result blocks", param="messages")
    return ChatWish(
        messages=messages,
        tools=read_wish(body.tools, body.tool_choice),
        tool_choice=body.tool_choice,
        template_kwargs=body.template_kwargs(),
        add_generation_prompt=not is_begun,
        continue_final_message=is_begun,
        model=body.model,
        media_params=read_media_params(body.mm_processor_kwargs),
        **fields,
    )


def _ending(body: MessagesBody, reader: ChoiceReader, finish: FinishReason) -> dict[str, Any]:
    if finish.type == "stop" and reader.has_whole_calls:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if finish.type == "stop" and finish.matched in (body.stop_sequences or ()):
        return {"stop_reason": "stop_sequence", "stop_sequence": finish.matched}
    return {"stop_reason": _STOP_REASONS[finish.type], "stop_sequence": None}


def _input_usage(stats: RequestStats) -> dict[str, Any]:
    """Tokens that were read from the cache are not among the input tokens."""
    return {
        "input_tokens": stats.prompt_tokens - stats.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": stats.cached_tokens,
    }
