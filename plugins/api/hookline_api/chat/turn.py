"""ChatTurn: from a chat to an engine request, and the readers of what comes back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from hookline.api.choice import raise_if_failed
from hookline.errors import RequestError
from hookline.interfaces.api import Chunk, GenerateRequest, OutputParser, RenderedChat, Serving
from hookline.messages.requests import LogprobRequest
from hookline_api.chat.forced_calls import ForcedCalls
from hookline_api.chat.reader import ChoiceReader, Delta, join
from hookline_api.chat.reasoning_tokens import count_reasoning_tokens
from hookline_api.chat.tools import ToolWish

#: Deltas after which other requests get their turn.
_BATCH = 512
_GRAMMARS = ("json_schema", "regex", "ebnf", "structural_tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWish:
    """A chat request in the words of no API."""

    #: OpenAI's message objects, which chat templates are written for.
    messages: Sequence[Mapping[str, Any]]
    tools: ToolWish = field(default_factory=ToolWish)
    #: The request's ``tool_choice`` as the client wrote it, for errors.
    tool_choice: Any = None
    #: Sampling parameters that the request sets.
    sampling: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    separate_reasoning: bool = True
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    stream: bool = False
    rid: str | None = None
    model: str | None = None
    logprobs: LogprobRequest | None = None
    priority: int = 0
    cache_salt: str = ""
    extra_key: str = ""


class ChatTurn:
    """One chat request on its way. Made by ``prepare``."""

    def __init__(self, serving: Serving, wish: ChatWish, rendered: RenderedChat) -> None:
        self._serving = serving
        self._wish = wish
        self._rendered = rendered
        self.request = self._engine_request()

    @classmethod
    async def prepare(cls, serving: Serving, wish: ChatWish) -> ChatTurn:
        """Check the model and render the chat. Raises ``RequestError`` for what is wrong with them."""
        serving.check_model(wish.model)
        return cls(serving, wish, await render(serving, wish))

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """What the engine says. Raises ``RequestError`` where it gives a choice up."""
        async with aclosing(self._serving.generate(self.request)) as chunks:
            try:
                async for chunk in chunks:
                    if chunk.finish_reason is not None:
                        raise_if_failed(chunk.finish_reason)
                    yield chunk
            except RequestError as exc:
                if self._wish.tools.schema is None or exc.param != "json_schema":
                    raise
                # The client knows nothing of the schema that was made of its tools.
                raise RequestError(
                    f"tool_choice {self._wish.tool_choice!r:.80} needs constrained output: {exc.message}",
                    param="tool_choice",
                    code=exc.code,
                    status_code=exc.status_code,
                ) from exc

    def reader(self, *, by_token: bool = False) -> ChoiceReader:
        """A reader for one choice; see there."""
        tools = self._wish.tools
        parser = ForcedCalls() if tools.schema is not None else self._parser(tools.tools)
        return ChoiceReader(self._serving, parser, is_parallel=tools.is_parallel, by_token=by_token)

    async def deltas(self, reader: ChoiceReader, chunk: Chunk) -> list[Delta]:
        """What ``reader`` finds in a chunk, neighbours joined. A long chunk does not hold other requests back."""
        groups: list[list[Delta]] = []
        for number, delta in enumerate(reader.read(chunk)):
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)
            if groups and delta.continues(groups[-1][0]):
                groups[-1].append(delta)
            else:
                groups.append([delta])
        return [join(group) for group in groups]

    async def num_reasoning_tokens(self, reader: ChoiceReader) -> int:
        """Tokens of the reasoning in a choice that has been read to its end."""
        if not reader.has_reasoning:
            return 0
        return await count_reasoning_tokens(self._serving, lambda: self._parser(()), reader.text, reader.token_ids)

    def _parser(self, tools: Sequence[Mapping[str, Any]]) -> OutputParser:
        return self._serving.output_parser(
            self._rendered,
            tools=tools,
            template_kwargs=self._wish.template_kwargs,
            # A grammar holds from the first token on: there is no reasoning, even if the template opened some.
            separate_reasoning=self._wish.separate_reasoning and self.request.sampling_params.grammar is None,
        )

    def _engine_request(self) -> GenerateRequest:
        wish = self._wish
        values = dict(wish.sampling)
        if self._rendered.stop:
            stop = values.get("stop") or []
            values["stop"] = [*([stop] if isinstance(stop, str) else stop), *self._rendered.stop]
        if wish.tools.tools or self._rendered.keeps_special_tokens:
            # The markers of calls may be special tokens, and those of reasoning may be.
            values.setdefault("skip_special_tokens", False)
        if wish.tools.schema is not None:
            if any(values.get(kind) is not None for kind in _GRAMMARS):
                raise RequestError(
                    f"tool_choice {wish.tool_choice!r:.80} constrains the output by itself; "
                    "leave out response_format and other grammars",
                    param="tool_choice",
                )
            values["json_schema"] = wish.tools.schema
        return GenerateRequest(
            input_ids=self._rendered.input_ids,
            sampling_params=self._serving.default_sampling_params(values),
            stream=wish.stream,
            rid=wish.rid or uuid.uuid4().hex,
            model=wish.model,
            logprobs=wish.logprobs,
            priority=wish.priority,
            cache_salt=wish.cache_salt,
            extra_key=wish.extra_key,
        )


async def render(serving: Serving, wish: ChatWish) -> RenderedChat:
    """The chat as a prompt. Raises ``RequestError`` for messages that the template refuses."""
    return await serving.render_chat(
        wish.messages,
        tools=wish.tools.tools,
        add_generation_prompt=wish.add_generation_prompt,
        continue_final_message=wish.continue_final_message,
        template_kwargs=wish.template_kwargs,
    )
