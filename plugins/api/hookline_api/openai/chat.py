"""``/v1/chat/completions``: from a chat to an engine request, and back to messages or chunks of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from hookline.api.choice import raise_if_failed
from hookline.api.sse import event
from hookline.errors import RequestError
from hookline.interfaces.api import Chunk, GenerateRequest, OutputParser, RenderedChat, Serving
from hookline.interfaces.parsers import FunctionCallDelta, ReasoningDelta, ToolCallDelta
from hookline.messages.outputs import FinishReason, RequestStats, TokenLogprob
from hookline.messages.requests import LogprobRequest
from hookline_api.openai.bodies import ChatBody, StreamOptions
from hookline_api.openai.forced_calls import ForcedCalls
from hookline_api.openai.logprobs import chat_logprobs
from hookline_api.openai.tools import ToolWish, read_tools
from hookline_api.openai.usage import Usage

_MAX_TOP_LOGPROBS = 20


class ParsedChoice:
    """One choice: its parser, and what was found so far."""

    def __init__(self, parser: OutputParser, wish: ToolWish) -> None:
        self._parser = parser
        self._is_parallel = wish.is_parallel
        self._is_incomplete = False
        self.num_calls = 0

    def read(self, text: str, *, is_last: bool) -> list[tuple[ReasoningDelta, FunctionCallDelta]]:
        """What the next piece of text holds."""
        found = [self._parser.feed(text)] if text else []
        if is_last:
            found.append(self._parser.finish())
        for _, delta in found:
            self._is_incomplete |= delta.incomplete
            for call in delta.calls:
                self.num_calls = max(self.num_calls, call.index + 1)
        return found

    def wants(self, call: ToolCallDelta) -> bool:
        """Whether a call is passed on: only the first without ``parallel_tool_calls``."""
        return self._is_parallel or call.index == 0

    def finish_reason(self, finish: FinishReason) -> str:
        """OpenAI's word. ``tool_calls`` says that every call is whole."""
        if finish.type == "stop" and self.num_calls and not self._is_incomplete:
            return "tool_calls"
        return finish.type


class ChatAnswer:
    """The answer to one chat request. Made by ``prepare``."""

    def __init__(self, serving: Serving, body: ChatBody, wish: ToolWish, rendered: RenderedChat) -> None:
        self._serving = serving
        self._body = body
        self._wish = wish
        self._rendered = rendered
        self._id = body.rid or f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = body.model or serving.models()[0].id
        self._top = body.top_logprobs or 0
        self._usage = Usage()
        self._request = self._engine_request()

    @classmethod
    async def prepare(cls, serving: Serving, body: ChatBody) -> ChatAnswer:
        """Check and render the chat. Raises ``RequestError`` for anything that is wrong with the request."""
        body.check_streaming()
        _check_logprobs(body)
        if body.continue_final_message and body.add_generation_prompt:
            raise RequestError(
                "add_generation_prompt and continue_final_message exclude each other", param="continue_final_message"
            )
        for old in ("functions", "function_call"):
            if old in (body.model_extra or {}):
                raise RequestError(f"{old} is not supported; use tools and tool_choice", param=old)
        serving.check_model(body.model)
        wish = read_tools(body.tools, body.tool_choice, body.parallel_tool_calls)
        rendered = await serving.render_chat(
            body.messages,
            tools=wish.tools,
            add_generation_prompt=body.add_generation_prompt is not False and not body.continue_final_message,
            continue_final_message=body.continue_final_message,
            template_kwargs=body.template_kwargs(),
        )
        return cls(serving, body, wish, rendered)

    async def whole(self) -> dict[str, Any]:
        """The ``chat.completion`` object."""
        texts: dict[int, list[str]] = {}
        logprobs: dict[int, list[TokenLogprob]] = {}
        ends: dict[int, FinishReason] = {}
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                self._usage.update(0, chunk.index, chunk.stats)
                texts.setdefault(chunk.index, []).append(chunk.text)
                logprobs.setdefault(chunk.index, []).extend(chunk.output_logprobs or ())
                if chunk.finish_reason is not None:
                    ends[chunk.index] = chunk.finish_reason
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                self._whole_choice(index, "".join(texts[index]), logprobs[index], ends[index])
                for index in sorted(texts)
            ],
            "usage": self._usage.body(),
        }

    async def events(self) -> AsyncGenerator[bytes]:
        """``chat.completion.chunk`` events. Each choice: its role, its deltas, then its finish reason."""
        options = self._body.stream_options or StreamOptions()
        choices: dict[int, ParsedChoice] = {}
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                usage = self._count(chunk.index, chunk.stats, options)
                events = []
                choice = choices.get(chunk.index)
                if choice is None:
                    choice = choices[chunk.index] = ParsedChoice(self._parser(), self._wish)
                    events.append(self._event(chunk.index, {"role": "assistant", "content": ""}, usage))
                events += self._delta_events(choice, chunk, usage)
                if chunk.finish_reason is not None:
                    events.append(self._finish_event(choice, chunk.index, chunk.finish_reason, usage))
                if events:
                    yield b"".join(events)
        if options.include_usage:
            yield event({**self._head(), "choices": [], "usage": self._usage.body()})

    # --- the request ---

    def _engine_request(self) -> GenerateRequest:
        body, wish = self._body, self._wish
        values = body.sampling_overrides()
        if self._rendered.stop:
            own = [body.stop] if isinstance(body.stop, str) else body.stop or []
            values["stop"] = [*own, *self._rendered.stop]
        if wish.tools and body.skip_special_tokens is None:
            # The markers of calls may be special tokens.
            values["skip_special_tokens"] = False
        if wish.schema is not None:
            if any(values.get(kind) is not None for kind in ("json_schema", "regex", "ebnf", "structural_tag")):
                raise RequestError(
                    f"tool_choice {body.tool_choice!r:.80} constrains the output by itself; "
                    "leave out response_format and other grammars",
                    param="tool_choice",
                )
            values["json_schema"] = wish.schema
        return GenerateRequest(
            input_ids=self._rendered.input_ids,
            sampling_params=self._serving.default_sampling_params(values),
            stream=bool(body.stream),
            rid=self._id,
            model=body.model,
            logprobs=LogprobRequest(top=self._top) if body.logprobs else None,
            priority=body.priority,
            cache_salt=body.cache_salt,
            extra_key=body.extra_key,
        )

    def _parser(self) -> OutputParser:
        if self._wish.schema is not None:
            return ForcedCalls()
        return self._serving.output_parser(
            self._rendered,
            tools=self._wish.tools,
            template_kwargs=self._body.template_kwargs(),
            # A grammar holds from the first token on: there is no reasoning, even if the template opened some.
            separate_reasoning=self._body.separate_reasoning and self._request.sampling_params.grammar is None,
        )

    async def _chunks(self) -> AsyncGenerator[Chunk]:
        async with aclosing(self._serving.generate(self._request)) as chunks:
            try:
                async for chunk in chunks:
                    if chunk.finish_reason is not None:
                        raise_if_failed(chunk.finish_reason)
                    yield chunk
            except RequestError as exc:
                if self._wish.schema is None or exc.param != "json_schema":
                    raise
                # The client knows nothing of the schema that was made of its tools.
                raise RequestError(
                    f"tool_choice {self._body.tool_choice!r:.80} needs constrained output: {exc.message}",
                    param="tool_choice",
                    code=exc.code,
                    status_code=exc.status_code,
                ) from exc

    # --- the answer ---

    def _whole_choice(
        self, index: int, text: str, logprobs: list[TokenLogprob], finish: FinishReason
    ) -> dict[str, Any]:
        choice = ParsedChoice(self._parser(), self._wish)
        found = choice.read(text, is_last=True)
        calls: list[dict[str, Any]] = []
        for piece in (piece for _, delta in found for piece in delta.calls if choice.wants(piece)):
            if piece.name is not None:
                calls.append(_call(piece))
            else:
                calls[piece.index]["function"]["arguments"] += piece.arguments
        content = "".join(delta.content for _, delta in found)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content or (None if calls else ""),
            "reasoning_content": "".join(delta.reasoning for delta, _ in found) or None,
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = calls
        return {
            "index": index,
            "message": message,
            "logprobs": chat_logprobs(self._serving, logprobs, self._top) if self._body.logprobs else None,
            "finish_reason": choice.finish_reason(finish),
            "matched_stop": finish.matched,
        }

    def _delta_events(self, choice: ParsedChoice, chunk: Chunk, usage: dict[str, Any]) -> list[bytes]:
        """An event for each kind of text that the chunk holds; the first carries its log-probabilities."""
        deltas: list[dict[str, Any]] = []
        for reasoning, rest in choice.read(chunk.text, is_last=chunk.finish_reason is not None):
            if reasoning.reasoning:
                deltas.append({"reasoning_content": reasoning.reasoning})
            if rest.content:
                deltas.append({"content": rest.content})
            for piece in rest.calls:
                if choice.wants(piece):
                    deltas.append({"tool_calls": [_call_delta(piece)]})
        entries = chunk.output_logprobs if self._body.logprobs else None
        if not entries:
            return [self._event(chunk.index, delta, usage) for delta in deltas]
        # Text may be withheld, but every token's log-probability is told once.
        logprobs = chat_logprobs(self._serving, entries, self._top)
        first, *others = deltas or [{}]
        return [
            self._event(chunk.index, first, usage, logprobs=logprobs),
            *(self._event(chunk.index, delta, usage) for delta in others),
        ]

    def _finish_event(self, choice: ParsedChoice, index: int, finish: FinishReason, usage: dict[str, Any]) -> bytes:
        ending = {"finish_reason": choice.finish_reason(finish), "matched_stop": finish.matched}
        return self._event(index, {}, usage, **ending)

    def _event(self, index: int, delta: dict[str, Any], usage: dict[str, Any], **fields: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
        return event({**self._head(), "choices": [choice], **usage})

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}

    def _count(self, index: int, stats: RequestStats, options: StreamOptions) -> dict[str, Any]:
        """What chunks say of the usage."""
        self._usage.update(0, index, stats)
        if options.continuous_usage_stats:
            return {"usage": self._usage.body()}
        return {"usage": None} if options.include_usage else {}


def _check_logprobs(body: ChatBody) -> None:
    top = body.top_logprobs
    if top is None:
        return
    if not 0 <= top <= _MAX_TOP_LOGPROBS:
        raise RequestError(f"top_logprobs must be from 0 to {_MAX_TOP_LOGPROBS}, not {top}", param="top_logprobs")
    if top and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs", param="top_logprobs")


def _call(piece: ToolCallDelta) -> dict[str, Any]:
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": piece.name, "arguments": piece.arguments},
    }


def _call_delta(piece: ToolCallDelta) -> dict[str, Any]:
    if piece.name is not None:
        return {"index": piece.index, **_call(piece)}
    return {"index": piece.index, "function": {"arguments": piece.arguments}}
