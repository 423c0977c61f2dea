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
from hookline.interfaces.multimodal import MediaParams
from hookline.messages.requests import LogprobRequest
from hookline.sampling_params import SamplingParams
from hookline_api.chat.forced_calls import ForcedCalls
from hookline_api.chat.reader import ChoiceReader, Delta, join
from hookline_api.chat.reasoning_tokens import count_reasoning_tokens
from hookline_api.chat.tools import ToolWish, array_schema

#: Deltas after which other requests get their turn.
_BATCH = 512
#: What grammar backends call the grammars that are made here.
_MADE = ("structural_tag", "json_schema")


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
    #: How the chat's media are processed where their parts do not say; see ``media_params_of``.
    media_params: MediaParams | None = None


class ChatTurn:
    """One chat request on its way. Made by ``prepare``."""

    def __init__(self, serving: Serving, wish: ChatWish, rendered: RenderedChat) -> None:
        self._serving = serving
        self._wish = wish
        self._rendered = rendered
        #: Whether required calls come as a JSON array, since the model's own format is not known.
        self._is_array = False
        #: Whether the grammar is not the client's own.
        self._is_made = False
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
                if not self._is_made or exc.param not in _MADE:
                    raise
                # The client knows nothing of the grammar that was made of its tools.
                is_required = self._wish.tools.is_required
                what = f"tool_choice {self._wish.tool_choice!r:.80} needs" if is_required else "these tools need"
                raise RequestError(
                    f"{what} constrained output: {exc.message}",
                    param="tool_choice" if is_required else "tools",
                    code=exc.code,
                    status_code=exc.status_code,
                ) from exc

    def reader(self, *, by_token: bool = False) -> ChoiceReader:
        """A reader for one choice; see there."""
        tools = self._wish.tools
        parser = ForcedCalls(self._parser(())) if self._is_array else self._parser(tools.tools)
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
            separate_reasoning=self._wish.separate_reasoning,
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
        return GenerateRequest(
            input_ids=self._rendered.input_ids,
            sampling_params=self._constrained(self._serving.default_sampling_params(values)),
            reasoning=self._rendered.reasoning_context(wish.template_kwargs),
            media=self._rendered.media,
            stream=wish.stream,
            rid=wish.rid or uuid.uuid4().hex,
            model=wish.model,
            logprobs=wish.logprobs,
            priority=wish.priority,
            cache_salt=wish.cache_salt,
            extra_key=wish.extra_key,
        )

    def _constrained(self, params: SamplingParams) -> SamplingParams:
        """With the grammar of what the answer may be."""
        wish, tools = self._wish, self._wish.tools
        if tools.is_required and params.grammar is not None:
            raise RequestError(
                f"tool_choice {wish.tool_choice!r:.80} constrains the output by itself; "
                "leave out response_format and other grammars",
                param="tool_choice",
            )
        found = self._serving.constrained(params, self._rendered, tools.rules, template_kwargs=wish.template_kwargs)
        self._is_array = found is None
        if found is None:
            found = params.replace(json_schema=array_schema(tools.tools, is_parallel=tools.is_parallel))
        self._is_made = bool(tools.tools) and found.grammar != params.grammar
        return found


async def render(serving: Serving, wish: ChatWish) -> RenderedChat:
    """The chat as a prompt. Raises ``RequestError`` for messages that the template refuses."""
    return await serving.render_chat(
        wish.messages,
        tools=wish.tools.tools,
        add_generation_prompt=wish.add_generation_prompt,
        continue_final_message=wish.continue_final_message,
        template_kwargs=wish.template_kwargs,
        media_params=wish.media_params,
    )
