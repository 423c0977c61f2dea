"""API families: HTTP routes on top of ``Serving``, the one facade that core offers them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from hookline.interfaces.parsers import PROMPT_TAIL, ReasoningContext
from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    from fastapi import APIRouter

    from hookline.api.errors import ErrorAnswer
    from hookline.config.schema import HooklineConfig
    from hookline.interfaces.multimodal import MediaInput, MediaParams
    from hookline.interfaces.parsers import FunctionCallDelta, ReasoningDelta
    from hookline.messages.outputs import FinishReason, RequestStats, TokenLogprob
    from hookline.messages.requests import LogprobRequest, PoolingRequest
    from hookline.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFamilySpec(Spec):
    """An API family. ``target`` is a subclass of ``ApiFamily``, called with an ``ApiContext``.

    First-party families are on by default; others stay off until ``server.api_families`` lists them.
    """

    kind: ClassVar[str] = "api_families"
    target_base: ClassVar[str] = "hookline.interfaces.api:ApiFamily"

    #: Every path the family serves, as its routes have them: ("/v1/models", "/v1/models/{model:path}", ...).
    #: Serving another path, or not serving one of these, stops the server from starting.
    paths: tuple[str, ...] = ()
    #: Paths among them that need the admin key: all that call ``Serving.control``.
    admin_paths: tuple[str, ...] = ()
    #: Paths that need no key and are never turned away under load (health). None that generates.
    open_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One prompt, as text or as token ids (exactly one of them), with its settings.

    ``sampling_params.n`` asks for several choices, which share the prompt's computation.
    """

    prompt: str | None = None
    input_ids: Sequence[int] | None = None
    #: Made by ``Serving.default_sampling_params`` from what the client set, which puts the server's and the
    #: model's defaults below it; ``SamplingParams(...)`` alone would ignore these.
    sampling_params: SamplingParams
    #: Whether chunks come while tokens are generated; without it one chunk for each choice, at its end.
    stream: bool = False
    #: The id by which ``Serving.abort`` and the client know the request; ``None``: one is made.
    rid: str | None = None
    #: Served model or adapter name, as the client gave it; ``None``: the model.
    model: str | None = None
    #: ``None``: no log-probabilities.
    logprobs: LogprobRequest | None = None
    #: Asks for a vector of the prompt (``Chunk.embedding``) rather than for text; give it
    #: ``SamplingParams(max_new_tokens=0)``.
    pooling: PoolingRequest | None = None
    #: For policies that order by priority; higher is sooner unless the server says otherwise.
    priority: int = 0
    #: Requests share cached prefixes only with those of the same salt, and of the same ``extra_key``.
    cache_salt: str = ""
    extra_key: str = ""
    #: Whether the tokenizer adds its special tokens to ``prompt`` (a rendered chat has them already).
    add_special_tokens: bool = True
    #: What the reasoning parser may know: then a grammar begins behind the reasoning. ``None``: at the first token,
    #: unless ``max_thinking_tokens`` is given, which says that there is reasoning.
    reasoning: ReasoningContext | None = None
    #: The media whose placeholders stand in the prompt, in the order of these (``RenderedChat.media``).
    media: Sequence[MediaInput] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of one choice. ``text`` and ``token_ids`` are deltas; joined they are the whole answer.

    A choice ends with the chunk whose ``finish_reason`` is set. One of type "abort" is a failure that the
    client must be told: ``hookline.api.choice.raise_if_failed`` makes an error of it.
    """

    rid: str
    #: The choice, from 0 to ``sampling_params.n - 1``. Chunks of different choices come in any order.
    index: int
    #: Whole characters: what might be a part of one, or of a stop string, comes with a later chunk. May be "".
    text: str
    token_ids: list[int]
    #: Set in the last chunk of the choice.
    finish_reason: FinishReason | None
    #: Counts so far, for usage.
    stats: RequestStats
    #: One entry for each of ``token_ids``, if ``GenerateRequest.logprobs`` was given.
    output_logprobs: list[TokenLogprob] | None = None
    #: Of the prompt, in the first chunk, if they were asked for.
    input_logprobs: list[TokenLogprob] | None = None
    #: In the last chunk, if ``GenerateRequest.pooling`` was given.
    embedding: list[float] | None = None
    #: Kind of medium -> tokens of the prompt that are media of it.
    media_tokens: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedChat:
    """A chat as a prompt."""

    prompt: str
    input_ids: list[int]
    #: Stop strings that the template itself asks for.
    stop: tuple[str, ...] = ()
    #: Whether the answer must keep special tokens, because those are what the reasoning parser looks for.
    keeps_special_tokens: bool = False
    #: The chat's media, to be given with ``input_ids`` as ``GenerateRequest.media``; there the placeholders are
    #: replaced by as many tokens as the media need.
    media: tuple[MediaInput, ...] = ()

    def reasoning_context(self, template_kwargs: Mapping[str, Any] | None = None) -> ReasoningContext:
        """What the reasoning parser may know of this prompt."""
        return ReasoningContext(prompt_tail=self.prompt[-PROMPT_TAIL:], template_kwargs=dict(template_kwargs or {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """How an answer may call functions."""

    #: OpenAI's tool objects; none: there are no calls.
    tools: Sequence[Mapping[str, Any]] = ()
    #: Whether the answer is calls and nothing else.
    required: bool = False
    #: Whether it may hold several.
    parallel: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A served model or adapter."""

    id: str
    root: str
    max_model_len: int
    parent: str | None = None
    created: int = 0


class OutputParser(Protocol):
    """The chosen reasoning and function-call parsers of one choice, in that order.

    Make one for each choice, ``feed`` it each chunk's text, and call ``finish`` once after the last. Of each
    answer, take ``reasoning`` from the first part, ``content`` and ``calls`` from the second.
    """

    def feed(self, text: str) -> tuple[ReasoningDelta, FunctionCallDelta]: ...
    def finish(self) -> tuple[ReasoningDelta, FunctionCallDelta]: ...


class Serving(Protocol):
    """What an API family may call, on the server's event loop alone. All calls raise ``RequestError``.

    ``hookline.testkit.fake_serving.FakeServing`` is one without an engine.
    """

    config: HooklineConfig

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Chunks of all choices as they come (one final chunk per choice without ``stream``).

        Closing the iterator early aborts every choice that has not ended, so it must be closed however its
        reader ends: read it under ``contextlib.aclosing``. Errors of the request come from the first step of
        the iterator; await that before answering, so that they become HTTP statuses. ``hookline.api.tasks``
        and the streams in ``hookline.api`` see to both.
        """
        ...

    def default_sampling_params(
        self, overrides: Mapping[str, Any], *, max_new_tokens: int | None = None
    ) -> SamplingParams:
        """Sampling parameters: ``overrides`` above the server's preferred above the model's generation
        config above the built-ins. Names are those of ``hookline.SamplingParams``. An override of ``None``
        means "not given", but for "max_new_tokens", where it means "to the end of the context". The argument
        ``max_new_tokens`` is the family's own default. Unknown or bad values raise ``RequestError``."""
        ...

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
        """A chat as prompt and token ids, through the model's template. ``messages`` and ``tools`` are
        OpenAI's objects; ``template_kwargs`` are further variables of the template (``enable_thinking``);
        ``media_params`` hold for the chat's media where their parts do not say.
        The error of a model without a template has the code "no_chat_template". Works in a thread, so that a
        long chat does not stop the loop."""
        ...

    def output_parser(
        self,
        rendered: RenderedChat,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        template_kwargs: Mapping[str, Any] | None = None,
        separate_reasoning: bool = True,
    ) -> OutputParser:
        """The parser of one choice. Give no ``tools`` when calls are not wanted (``tool_choice`` "none")."""
        ...

    def constrained(
        self,
        sampling_params: SamplingParams,
        rendered: RenderedChat,
        rules: CallRules,
        *,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> SamplingParams | None:
        """The parameters with one grammar of what may follow the reasoning: their own for an answer, the model's
        format for calls. Give the request ``rendered.reasoning_context()`` too. ``None`` if calls are required and
        cannot be demanded in the model's format."""
        ...

    async def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...
    async def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str: ...
    def token_text(self, token_id: int) -> str:
        """The text of one token alone (with U+FFFD for partial characters)."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes of one token."""
        ...

    def models(self) -> list[ModelCard]:
        """The model first, then its adapters."""
        ...

    def check_model(self, name: str | None) -> None:
        """Raises ``NotServedError`` listing what is served."""
        ...

    async def abort(self, rid: str | None, *, all_requests: bool = False) -> int:
        """Abort by the id that the client knows (all its choices); returns how many choices were told."""
        ...

    async def control(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Do something besides generating; ``hookline.messages.control.ControlRequest`` lists the methods.
        Only for ``admin_paths``, or after ``hookline.api.auth.require_admin``."""
        ...

    def readiness(self) -> tuple[bool, str]:
        """Whether requests are served now, and why not."""
        ...

    def health(self) -> tuple[bool, str]:
        """Whether work, if there is any, makes progress."""
        ...

    def server_info(self) -> dict[str, Any]: ...
    def plugin_report(self) -> dict[str, Any]: ...
    def metrics(self) -> tuple[bytes, str]:
        """Prometheus exposition and its content type."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What a family gets at start-up."""

    serving: Serving
    #: The checked options of its plugin, an instance of ``PluginInfo.config_model``; ``None`` without one.
    options: Any = None


class ApiFamily(ABC):
    """A family of HTTP routes.

    Made once, in the server's process, and used for all requests at a time: what belongs to one request must
    not be kept on ``self``. Handlers run on the server's event loop and must not block it; write them
    ``async def``, since FastAPI runs others in threads, from where ``serving`` may not be called. Any
    ``RequestError`` that they raise becomes an answer with its status. ``hookline.api`` has what families
    share: request bodies that report unknown fields, streams, work that ends when its client leaves.
    """

    def __init__(self, context: ApiContext) -> None:
        self.serving = context.serving
        self.options = context.options

    @abstractmethod
    def router(self) -> APIRouter:
        """The routes: exactly those that the spec declares. Called once; a path that another family has is an
        error that names both."""

    def error_body(self, error: ErrorAnswer) -> Any:
        """The JSON body that tells a client of an error on one of the family's paths, also in mid-stream and
        where the server itself refuses (keys, limits). OpenAI's error object unless a family has its own."""
        return error.body()
