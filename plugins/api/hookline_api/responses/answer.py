"""``/v1/responses``: from a request to an engine request, and back to a response or its events."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any

from hookline.api.errors import describe
from hookline.errors import RequestError
from hookline.interfaces.api import Chunk, Serving
from hookline.messages.outputs import FinishReason, TokenLogprob
from hookline.messages.requests import LogprobRequest
from hookline_api.chat.media import media_details, read_media_params
from hookline_api.chat.thinking import thinking_limit
from hookline_api.chat.turn import ChatTurn, ChatWish
from hookline_api.openai.logprobs import chat_logprobs
from hookline_api.responses.bodies import ResponsesBody
from hookline_api.responses.conversation import chat_messages, read_items, read_wish
from hookline_api.responses.items import ItemWriter
from hookline_api.responses.store import ResponseStore, StoredResponse
from hookline_api.typed_events import typed_event

#: Why a response is incomplete, by the way in which the engine ended it.
_REASONS = {"length": "max_output_tokens", "abort": "aborted"}


class ResponseAnswer:
    """The answer to one request. Made by ``prepare``."""

    def __init__(
        self,
        serving: Serving,
        store: ResponseStore,
        body: ResponsesBody,
        turn: ChatTurn,
        items: Sequence[Mapping[str, Any]],
    ) -> None:
        self._serving = serving
        self._store = store
        self._body = body
        self._turn = turn
        #: The conversation that is answered.
        self._items = items
        self._created = int(time.time())
        self._reader = turn.reader(by_token=True)
        self._writer = ItemWriter(self._logprobs)

    @classmethod
    async def prepare(
        cls, serving: Serving, store: ResponseStore, body: ResponsesBody, effort_tokens: Mapping[str, int]
    ) -> ResponseAnswer:
        """Check and render the conversation. Raises ``RequestError`` for anything that is wrong with the request."""
        body.check()
        limit = thinking_limit(serving, body.max_thinking_tokens, body.effort, effort_tokens)
        history = _history(store, body.previous_response_id)
        given = read_items(body.input)
        wish = ChatWish(
            messages=chat_messages(body.instructions, history, given),
            tools=read_wish(body.tools, body.tool_choice, body.parallel_tool_calls),
            tool_choice=body.tool_choice,
            sampling={**body.sampling_overrides(), **limit},
            template_kwargs=body.template_kwargs(),
            stream=bool(body.stream),
            rid=f"resp_{uuid.uuid4().hex}",
            model=body.model,
            logprobs=LogprobRequest(top=body.top_logprobs or 0) if body.with_logprobs else None,
            priority=body.priority,
            cache_salt=body.cache_salt,
            extra_key=body.extra_key,
            media_params=read_media_params(body.mm_processor_kwargs),
        )
        return cls(serving, store, body, await ChatTurn.prepare(serving, wish), [*history, *given])

    async def whole(self) -> dict[str, Any]:
        """The ``response`` object."""
        last: Chunk | None = None
        async with aclosing(self._turn.chunks()) as chunks:
            async for chunk in chunks:
                await self._write(chunk)
                last = chunk
        assert last is not None, "a choice ends with a chunk"
        return await self._finished(last)

    async def events(self) -> AsyncGenerator[bytes]:
        """Events from ``response.created`` to the one that says how the response ended."""
        numbers = count()

        def framed(events: Sequence[dict[str, Any]]) -> bytes:
            return b"".join(typed_event({**event, "sequence_number": next(numbers)}) for event in events)

        has_started = False
        try:
            async with aclosing(self._turn.chunks()) as chunks:
                async for chunk in chunks:
                    events: list[dict[str, Any]] = []
                    if not has_started:
                        has_started = True
                        begun = self._response("in_progress")
                        events += [
                            {"type": f"response.{step}", "response": begun} for step in ("created", "in_progress")
                        ]
                    events += await self._write(chunk)
                    if chunk.finish_reason is not None:
                        response = await self._finished(chunk)
                        events.append({"type": f"response.{response['status']}", "response": response})
                    if events:
                        yield framed(events)
        except Exception as exc:
            if not has_started:
                # Nothing has been sent: the error becomes the answer's status.
                raise
            yield framed([{"type": "response.failed", "response": self._failed(exc)}])

    async def _write(self, chunk: Chunk) -> list[dict[str, Any]]:
        deltas = await self._turn.deltas(self._reader, chunk)
        events = [event for delta in deltas for event in self._writer.write(delta)]
        if chunk.finish_reason is not None:
            status = "incomplete" if chunk.finish_reason.type in _REASONS else "completed"
            events += self._writer.close(status=status)
        return events

    async def _finished(self, last: Chunk) -> dict[str, Any]:
        """The response at its end, which is stored."""
        finish = last.finish_reason or FinishReason(type="stop")
        reason = _REASONS.get(finish.type)
        response = self._response(
            "completed" if reason is None else "incomplete",
            completed_at=int(time.time()) if reason is None else None,
            incomplete_details=None if reason is None else {"reason": reason},
            output=self._writer.output,
            usage=await self._usage(last),
        )
        if response["store"]:
            # Nobody can answer a call that was cut off, and no template can write it.
            told = [
                item
                for item in self._writer.output
                if item["type"] != "function_call" or item["status"] != "incomplete"
            ]
            self._store.put(StoredResponse(response=response, items=[*self._items, *told]))
        return response

    def _failed(self, exc: Exception) -> dict[str, Any]:
        answer = describe(exc)
        code = "server_error" if answer.status_code >= 500 else "invalid_prompt"
        return self._response("failed", error={"code": code, "message": answer.message}, output=[*self._writer.output])

    def _response(self, status: str, **fields: Any) -> dict[str, Any]:
        body, params = self._body, self._turn.request.sampling_params
        return {
            "id": self._turn.request.rid,
            "object": "response",
            "created_at": self._created,
            "completed_at": None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "metadata": body.metadata or {},
            "model": body.model or self._serving.models()[0].id,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": body.reasoning.effort if body.reasoning is not None else None, "summary": None},
            "safety_identifier": body.safety_identifier,
            "service_tier": "default",
            "store": body.store is not False,
            "temperature": params.temperature,
            "text": {"format": body.text_format()},
            "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
            "tools": body.tools or [],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": params.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": body.user,
            **fields,
        }

    async def _usage(self, last: Chunk) -> dict[str, Any]:
        stats, media = last.stats, media_details(last.media_tokens)
        return {
            "input_tokens": stats.prompt_tokens,
            "input_tokens_details": {"cached_tokens": stats.cached_tokens, "cache_write_tokens": 0, **media},
            "output_tokens": stats.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": await self._turn.num_reasoning_tokens(self._reader)},
            "total_tokens": stats.prompt_tokens + stats.completion_tokens,
        }

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = chat_logprobs(self._serving, entries, self._body.top_logprobs or 0)["content"]
        return found


def _history(store: ResponseStore, previous_id: str | None) -> Sequence[Mapping[str, Any]]:
    """The conversation up to the response of this id."""
    if previous_id is None:
        return ()
    stored = store.get(previous_id)
    if stored is None:
        raise RequestError(
            f"there is no response {previous_id!r:.80}: it was not stored, is too old, or was deleted; "
            "send the whole conversation as input",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return stored.items
