"""``/v1/chat/completions``: from a chat to an engine request, and back to messages or chunks of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from hookline.api.sse import event
from hookline.errors import RequestError
from hookline.interfaces.api import Chunk, Serving
from hookline.messages.outputs import FinishReason, TokenLogprob
from hookline.messages.requests import LogprobRequest
from hookline_api.chat.media import read_media_params
from hookline_api.chat.reader import ChoiceReader, Delta, DeltaKind
from hookline_api.chat.thinking import thinking_limit
from hookline_api.chat.tools import read_tools
from hookline_api.chat.turn import ChatTurn, ChatWish
from hookline_api.openai.bodies import ChatBody, StreamOptions
from hookline_api.openai.logprobs import MAX_TOP_LOGPROBS, chat_logprobs
from hookline_api.openai.usage import Usage


class ChatAnswer:
    """The answer to one chat request. Made by ``prepare``."""

    def __init__(self, serving: Serving, body: ChatBody, turn: ChatTurn) -> None:
        self._serving = serving
        self._body = body
        self._turn = turn
        self._id = turn.request.rid
        self._created = int(time.time())
        self._model = body.model or serving.models()[0].id
        self._top = body.top_logprobs or 0
        self._usage = Usage(with_reasoning=True)

    @classmethod
    async def prepare(cls, serving: Serving, body: ChatBody, effort_tokens: Mapping[str, int]) -> ChatAnswer:
        """Check and render the chat. Raises ``RequestError`` for anything that is wrong with the request."""
        _check(body)
        limit = thinking_limit(serving, body.max_thinking_tokens, body.reasoning_effort, effort_tokens)
        wish = ChatWish(
            messages=body.messages,
            tools=read_tools(body.tools, body.tool_choice, body.parallel_tool_calls),
            tool_choice=body.tool_choice,
            sampling={**body.sampling_overrides(), **limit},
            template_kwargs=body.template_kwargs(),
            separate_reasoning=body.separate_reasoning,
            add_generation_prompt=body.add_generation_prompt is not False and not body.continue_final_message,
            continue_final_message=body.continue_final_message,
            stream=bool(body.stream),
            rid=body.rid or f"chatcmpl-{uuid.uuid4().hex}",
            model=body.model,
            logprobs=LogprobRequest(top=body.top_logprobs or 0) if body.logprobs else None,
            priority=body.priority,
            cache_salt=body.cache_salt,
            extra_key=body.extra_key,
            media_params=read_media_params(body.mm_processor_kwargs),
        )
        return cls(serving, body, await ChatTurn.prepare(serving, wish))

    async def whole(self) -> dict[str, Any]:
        """The ``chat.completion`` object."""
        readers: dict[int, ChoiceReader] = {}
        deltas: dict[int, list[Delta]] = {}
        logprobs: dict[int, list[TokenLogprob]] = {}
        ends: dict[int, FinishReason] = {}
        async with aclosing(self._turn.chunks()) as chunks:
            async for chunk in chunks:
                index = chunk.index
                reader = readers.setdefault(index, self._turn.reader())
                deltas.setdefault(index, []).extend(await self._turn.deltas(reader, chunk))
                logprobs.setdefault(index, []).extend(chunk.output_logprobs or ())
                self._usage.update(0, index, chunk.stats, chunk.media_tokens)
                if chunk.finish_reason is not None:
                    ends[index] = chunk.finish_reason
                    self._usage.add_reasoning(0, index, await self._turn.num_reasoning_tokens(reader))
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": index,
                    "message": _message(deltas[index]),
                    "logprobs": self._logprobs(logprobs[index]),
                    **_ending(readers[index], ends[index]),
                }
                for index in sorted(readers)
            ],
            "usage": self._usage.body(),
        }

    async def events(self) -> AsyncGenerator[bytes]:
        """``chat.completion.chunk`` events. Each choice: its role, its deltas, then its finish reason."""
        options = self._body.stream_options or StreamOptions()
        readers: dict[int, ChoiceReader] = {}
        async with aclosing(self._turn.chunks()) as chunks:
            async for chunk in chunks:
                self._usage.update(0, chunk.index, chunk.stats, chunk.media_tokens)
                usage = self._usage_so_far(options)
                events = []
                reader = readers.get(chunk.index)
                if reader is None:
                    reader = readers[chunk.index] = self._turn.reader(by_token=bool(self._body.logprobs))
                    events.append(self._event(chunk.index, {"role": "assistant", "content": ""}, usage))
                events += [
                    self._event(chunk.index, _delta(delta), usage, logprobs=self._logprobs(delta.logprobs))
                    for delta in await self._turn.deltas(reader, chunk)
                ]
                if chunk.finish_reason is not None:
                    events.append(await self._last_event(reader, chunk, options))
                if events:
                    yield b"".join(events)
        if options.include_usage:
            yield event({**self._head(), "choices": [], "usage": self._usage.body()})

    async def _last_event(self, reader: ChoiceReader, chunk: Chunk, options: StreamOptions) -> bytes:
        assert chunk.finish_reason is not None
        if options.include_usage or options.continuous_usage_stats:
            self._usage.add_reasoning(0, chunk.index, await self._turn.num_reasoning_tokens(reader))
        # Log-probabilities of tokens that no text stands for.
        logprobs = self._logprobs(reader.take_logprobs())
        ending = _ending(reader, chunk.finish_reason)
        return self._event(chunk.index, {}, self._usage_so_far(options), logprobs=logprobs, **ending)

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        return chat_logprobs(self._serving, entries, self._top) if entries else None

    def _event(self, index: int, delta: dict[str, Any], usage: dict[str, Any], **fields: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
        return event({**self._head(), "choices": [choice], **usage})

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}

    def _usage_so_far(self, options: StreamOptions) -> dict[str, Any]:
        """What chunks say of the usage."""
        if options.continuous_usage_stats:
            return {"usage": self._usage.body()}
        return {"usage": None} if options.include_usage else {}


def _check(body: ChatBody) -> None:
    body.check_streaming()
    top = body.top_logprobs
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        raise RequestError(f"top_logprobs must be from 0 to {MAX_TOP_LOGPROBS}, not {top}", param="top_logprobs")
    if top and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs", param="top_logprobs")
    if body.continue_final_message and body.add_generation_prompt:
        raise RequestError(
            "add_generation_prompt and continue_final_message exclude each other", param="continue_final_message"
        )
    for old in ("functions", "function_call"):
        if old in (body.model_extra or {}):
            raise RequestError(f"{old} is not supported; use tools and tool_choice", param=old)


def _message(deltas: Sequence[Delta]) -> dict[str, Any]:
    texts = {kind: "".join(delta.text for delta in deltas if delta.kind is kind) for kind in DeltaKind}
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        if delta.kind is not DeltaKind.CALL:
            continue
        if delta.name is not None:
            calls.append(_call(delta))
        else:
            calls[delta.index]["function"]["arguments"] += delta.text
    message: dict[str, Any] = {
        "role": "assistant",
        "content": texts[DeltaKind.CONTENT] or (None if calls else ""),
        "reasoning_content": texts[DeltaKind.REASONING] or None,
        "refusal": None,
    }
    if calls:
        message["tool_calls"] = calls
    return message


def _delta(delta: Delta) -> dict[str, Any]:
    if delta.kind is DeltaKind.REASONING:
        return {"reasoning_content": delta.text}
    if delta.kind is DeltaKind.CONTENT:
        return {"content": delta.text}
    if delta.name is not None:
        return {"tool_calls": [{"index": delta.index, **_call(delta)}]}
    return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.text}}]}


def _call(delta: Delta) -> dict[str, Any]:
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": delta.name, "arguments": delta.text},
    }


def _ending(reader: ChoiceReader, finish: FinishReason) -> dict[str, Any]:
    """``finish_reason`` is OpenAI's word: ``tool_calls`` says that every call is whole."""
    word = "tool_calls" if finish.type == "stop" and reader.has_whole_calls else finish.type
    return {"finish_reason": word, "matched_stop": finish.matched}
