"""FakeServing: a scripted ``Serving``, so that an API family is tested without an engine, a model or torch.

Answers are written in the test::

    from hookline.testkit.fake_serving import FakeServing, Reply
    from hookline.testkit.in_process import http, make_app


    async def test_complete() -> None:
        serving = FakeServing(replies=[Reply(text="Hello.")])
        async with http(make_app(["mine"], serving)) as client:
            answer = await client.post("/mine/complete", json={"prompt": "Hi"})
        assert answer.json()["text"] == "Hello."
        assert serving.requests[0].prompt == "Hi"
"""

from __future__ import annotations

import asyncio
import codecs
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hookline.config.schema import HooklineConfig
from hookline.errors import NotServedError, RequestError
from hookline.frontend.chat_messages import normalize_messages
from hookline.frontend.media_parts import take_media
from hookline.frontend.output_parser import ComposedOutputParser
from hookline.frontend.output_plan import constrain
from hookline.interfaces.api import CallRules, Chunk, GenerateRequest, ModelCard, OutputParser, RenderedChat
from hookline.interfaces.multimodal import NO_PARAMS, MediaInput, MediaParams
from hookline.interfaces.parsers import (
    FunctionCallParser,
    FunctionCallParserSpec,
    ReasoningParser,
    ReasoningParserSpec,
)
from hookline.interfaces.spec import Spec
from hookline.messages.outputs import FinishReason, RequestStats, TokenLogprob
from hookline.observability.logging import request_id
from hookline.plugins.plan import PluginPlan
from hookline.plugins.resolve import choose
from hookline.sampling_params import SamplingParams
from hookline.testkit.offer_suite import installed

#: What is served: a model, and an adapter of it.
MODEL = "fake-model"
ADAPTER = "fake-adapter"
MAX_MODEL_LEN = 512
#: The one special token: ends the output, has no text of its own.
END_ID = 256
STOP = FinishReason(type="stop", matched=END_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one choice says. Tokens are the text's UTF-8 bytes."""

    text: str = "Hello there."
    #: How the text is cut for streams; ``None``: a piece for each character.
    pieces: Sequence[str] | None = None
    finish: FinishReason = STOP
    #: Raised before the first chunk.
    error: Exception | None = None
    #: After so many pieces ``failure`` is raised; if that is ``None`` the rest comes when ``release`` is set,
    #: or never. An answer that is not streamed is one piece.
    break_after: int | None = None
    failure: Exception | None = None
    release: asyncio.Event | None = None
    embedding: list[float] | None = None


@dataclass(slots=True)
class FakeServing:
    """A ``hookline.interfaces.api.Serving`` whose answers are given, and which keeps what it was asked.

    Prompts have a token for each UTF-8 byte, and a context of ``MAX_MODEL_LEN`` tokens is what ``models``
    says; nothing enforces it.
    """

    config: HooklineConfig = field(default_factory=HooklineConfig)
    #: By turns: ``replies[i]`` for the i-th choice that is started, the last one for all later.
    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    #: Replies to the choices of single HTTP requests, by the ``x-request-id`` that the client sent; above
    #: ``replies``.
    replies_to: Mapping[str, Reply] = field(default_factory=dict)
    #: Formats that ``output_parser`` knows: the name of an installed parser, or a class. ``None``: all is content.
    reasoning_parser: str | type[ReasoningParser] | None = None
    function_call_parser: str | type[FunctionCallParser] | None = None
    #: Whether the model has a chat template.
    has_chat_template: bool = True
    #: Appended to every rendered chat: "<think>\n" for a template that opens the reasoning.
    prompt_suffix: str = ""
    #: Kind of medium that the model takes -> its placeholder: {"image": "<image>"}. Every medium has one token.
    placeholders: Mapping[str, str] = field(default_factory=dict)
    cached_tokens: int = 2
    ready: tuple[bool, str] = (True, "")
    healthy: tuple[bool, str] = (True, "")
    #: Answers of ``control``, or errors to raise.
    controls: Mapping[str, dict[str, Any] | Exception] = field(default_factory=dict)

    requests: list[GenerateRequest] = field(default_factory=list)
    #: Ids of requests whose reader went away before the end.
    aborted: list[str | None] = field(default_factory=list)
    control_calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    abort_calls: list[tuple[str | None, bool]] = field(default_factory=list)
    rendered: list[dict[str, Any]] = field(default_factory=list)
    #: Set when a reply has come to its ``break_after`` without a failure.
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    _num_choices: int = 0

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        self.requests.append(request)
        replies = [self._next_reply() for _ in range(request.sampling_params.n)]
        has_ended = False
        try:
            await asyncio.sleep(0)
            self.check_model(request.model)
            _check_ids(request.input_ids or (), "input_ids")
            for reply in replies:
                if reply.error is not None:
                    raise reply.error
            scripts = [self._script(request, index, reply) for index, reply in enumerate(replies)]
            # Choices by turns, as an engine gives them.
            while scripts:
                for script in list(scripts):
                    try:
                        yield await anext(script)
                    except StopAsyncIteration:
                        scripts.remove(script)
            has_ended = True
        finally:
            if not has_ended:
                self.aborted.append(request.rid)

    def _next_reply(self) -> Reply:
        named = self.replies_to.get(request_id.get())
        if named is not None:
            return named
        self._num_choices += 1
        return self.replies[min(self._num_choices, len(self.replies)) - 1]

    async def _script(self, request: GenerateRequest, index: int, reply: Reply) -> AsyncGenerator[Chunk]:
        prompt = self._prompt_ids(request)
        text, finish = _cut(reply, request.sampling_params)
        pieces = list(text) if reply.pieces is None else list(reply.pieces)
        if not request.stream:
            pieces = ["".join(pieces)]
        sent = 0
        for number, piece in enumerate(pieces or [""]):
            if reply.break_after == number:
                if reply.failure is not None:
                    raise reply.failure
                self.hanging.set()
                await (reply.release or asyncio.Event()).wait()
            is_last = number >= len(pieces) - 1
            ids = list(piece.encode())
            if is_last and finish.matched == END_ID:
                ids.append(END_ID)
            sent += len(ids)
            yield self._chunk(request, index, piece, ids, prompt, finish if is_last else None, sent, reply, number == 0)
            await asyncio.sleep(0)

    def _chunk(
        self,
        request: GenerateRequest,
        index: int,
        text: str,
        ids: list[int],
        prompt: list[int],
        finish: FinishReason | None,
        sent: int,
        reply: Reply,
        is_first: bool,
    ) -> Chunk:
        wish = request.logprobs
        start = None if wish is None else wish.input_start
        return Chunk(
            rid=request.rid or "rid",
            index=index,
            text=text,
            token_ids=ids,
            finish_reason=finish,
            stats=RequestStats(len(prompt), self.cached_tokens, sent),
            media_tokens=Counter(medium.kind for medium in request.media),
            output_logprobs=None if wish is None else [_logprob(token, wish.top, wish.token_ids) for token in ids],
            input_logprobs=None
            if start is None or wish is None or not is_first
            else [
                _logprob(token, wish.top, wish.token_ids) if position else TokenLogprob(None, token)
                for position, token in list(enumerate(prompt))[start:]
            ],
            embedding=reply.embedding if finish is not None and request.pooling is not None else None,
        )

    def _prompt_ids(self, request: GenerateRequest) -> list[int]:
        if request.input_ids is not None:
            return list(request.input_ids)
        return list((request.prompt or "").encode())

    def default_sampling_params(
        self, overrides: Mapping[str, Any], *, max_new_tokens: int | None = None
    ) -> SamplingParams:
        given = {key: value for key, value in overrides.items() if value is not None or key == "max_new_tokens"}
        return SamplingParams.from_dict({"max_new_tokens": max_new_tokens, **given})

    async def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        media_params: MediaParams | None = None,
    ) -> RenderedChat:
        if not self.has_chat_template:
            raise RequestError("this model has no chat template", code="no_chat_template")
        media: list[MediaInput] = []
        if self.placeholders:
            messages, media = take_media(messages, self.placeholders, defaults=media_params or NO_PARAMS)
        chat = normalize_messages(messages, keep_parts=False, developer_as_system=True, placeholders=self.placeholders)
        self.rendered.append(
            {
                "messages": chat,
                "tools": list(tools),
                "add_generation_prompt": add_generation_prompt,
                "continue_final_message": continue_final_message,
                "template_kwargs": dict(template_kwargs or {}),
            }
        )
        prompt = "".join(f"<{message['role']}>{message['content']}\n" for message in chat)
        prompt += ("<assistant>" if add_generation_prompt else "") + self.prompt_suffix
        return RenderedChat(prompt=prompt, input_ids=list(prompt.encode()), media=tuple(media))

    def output_parser(
        self,
        rendered: RenderedChat,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        template_kwargs: Mapping[str, Any] | None = None,
        separate_reasoning: bool = True,
    ) -> OutputParser:
        reasoning: ReasoningParser | None = None
        if self.reasoning_parser is not None and separate_reasoning:
            reasoning = _parser(ReasoningParserSpec, self.reasoning_parser)(rendered.reasoning_context(template_kwargs))
        calls: FunctionCallParser | None = None
        if self.function_call_parser is not None and tools:
            calls = _parser(FunctionCallParserSpec, self.function_call_parser)(
                tools, unknown_functions=self.config.output.unknown_functions
            )
        return ComposedOutputParser(reasoning, calls)

    def constrained(
        self,
        sampling_params: SamplingParams,
        rendered: RenderedChat,
        rules: CallRules,
        *,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> SamplingParams | None:
        span = None
        if self.reasoning_parser is not None:
            context = rendered.reasoning_context(template_kwargs)
            span = _parser(ReasoningParserSpec, self.reasoning_parser)(context).span()
        calls = None
        if self.function_call_parser is not None:
            calls = _parser(FunctionCallParserSpec, self.function_call_parser)
        return constrain(sampling_params, rules, span, calls)

    async def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    async def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        _check_ids(ids, "tokens")
        end = b"" if skip_special_tokens else b"<|end|>"
        return b"".join(end if token == END_ID else bytes([token]) for token in ids).decode(errors="replace")

    def token_text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return b"<|end|>" if token_id == END_ID else bytes([token_id])

    def models(self) -> list[ModelCard]:
        return [
            ModelCard(id=MODEL, root="/models/fake", max_model_len=MAX_MODEL_LEN, created=1),
            ModelCard(id=ADAPTER, root="/adapters/fake", max_model_len=MAX_MODEL_LEN, parent=MODEL, created=2),
        ]

    def check_model(self, name: str | None) -> None:
        if name not in (None, MODEL, ADAPTER):
            raise NotServedError(f"the model '{name}' is not served here (served: {MODEL}, {ADAPTER})", param="model")

    async def abort(self, rid: str | None, *, all_requests: bool = False) -> int:
        self.abort_calls.append((rid, all_requests))
        return 1

    async def control(self, method: str, **arguments: Any) -> dict[str, Any]:
        self.control_calls.append((method, arguments))
        reply = self.controls.get(method, {})
        if isinstance(reply, Exception):
            raise reply
        return reply

    def readiness(self) -> tuple[bool, str]:
        return self.ready

    def health(self) -> tuple[bool, str]:
        return self.healthy

    def server_info(self) -> dict[str, Any]:
        return {"model": MODEL}

    def plugin_report(self) -> dict[str, Any]:
        parsers = {"reasoning_parsers": self.reasoning_parser, "function_call_parsers": self.function_call_parser}
        chosen = [
            {"kind": kind, "name": given if isinstance(given, str) else given.__name__}
            for kind, given in parsers.items()
            if given is not None
        ]
        return {"chosen": chosen, "plugins": []}

    def metrics(self) -> tuple[bytes, str]:
        return b"hookline_up 1\n", "text/plain; version=0.0.4"


def refuse(message: str = "bad", **fields: Any) -> Reply:
    """A reply that fails before its first chunk."""
    return Reply(error=RequestError(message, **fields))


def _cut(reply: Reply, params: SamplingParams) -> tuple[str, FinishReason]:
    """The reply up to the first stop string or the length limit."""
    if reply.pieces is not None:
        return "", reply.finish
    text, finish = reply.text, reply.finish
    found = [(text.find(stop), stop) for stop in params.stop if stop in text]
    if found:
        end, stop = min(found)
        text, finish = text[:end], FinishReason(type="stop", matched=stop)
    limit = params.max_new_tokens
    if finish.type == "abort":
        return text, finish
    if limit is not None and len(text.encode()) >= limit and not found:
        text = codecs.getincrementaldecoder("utf-8")("ignore").decode(text.encode()[:limit])
        finish = FinishReason(type="length")
    return text, finish


def _check_ids(ids: Sequence[int], field: str) -> None:
    for token in ids:
        if not 0 <= token <= END_ID:
            raise RequestError(f"{field} holds {token}, but token ids go from 0 to {END_ID}", param=field)


def _logprob(token: int, top: int, chosen: Sequence[int]) -> TokenLogprob:
    """Made up, but different for each token."""
    return TokenLogprob(
        -token / 1000,
        token,
        [((token + rank) % 256, -token / 1000 - rank) for rank in range(top)],
        [(other, -float(other)) for other in chosen],
    )


def _parser(spec_type: type[Spec], given: Any) -> Any:
    """A parser's class, by its name among what is installed."""
    if not isinstance(given, str):
        return given
    return PluginPlan(source_paths=installed().source_paths).load(choose(installed().get(spec_type, given)))
