"""API families: HTTP routes on top of ``Serving``, the one facade that core offers them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    from fastapi import APIRouter

    from hookline.config.schema import HooklineConfig
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

    #: Every path the family serves, for listings and conflict checks: ("/v1/models", ...).
    paths: tuple[str, ...] = ()
    #: Paths among them that need the admin key.
    admin_paths: tuple[str, ...] = ()
    #: Paths that need no key at all (health).
    open_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One prompt, text or ids, with its settings. ``sampling_params.n`` gives several choices."""

    prompt: str | None = None
    input_ids: Sequence[int] | None = None
    #: ``None``: the model's and server's defaults alone.
    sampling_params: SamplingParams
    stream: bool = False
    rid: str | None = None
    #: Served model or adapter name; ``None``: the model.
    model: str | None = None
    logprobs: LogprobRequest | None = None
    pooling: PoolingRequest | None = None
    priority: int = 0
    cache_salt: str = ""
    extra_key: str = ""
    #: Whether the tokenizer adds its special tokens to ``prompt`` (a rendered chat has them already).
    add_special_tokens: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of one choice. ``text`` and ``token_ids`` are deltas; joined they are the whole answer.

    A choice ends with the chunk whose ``finish_reason`` is set; one of type "abort" carries the error.
    """

    rid: str
    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None
    stats: RequestStats
    output_logprobs: list[TokenLogprob] | None = None
    input_logprobs: list[TokenLogprob] | None = None
    embedding: list[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedChat:
    """A chat as a prompt."""

    prompt: str
    input_ids: list[int]
    #: Stop strings that the template itself asks for.
    stop: tuple[str, ...] = ()


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

    Of each answer, take ``reasoning`` from the first part, ``content`` and ``calls`` from the second.
    """

    def feed(self, text: str) -> tuple[ReasoningDelta, FunctionCallDelta]: ...
    def finish(self) -> tuple[ReasoningDelta, FunctionCallDelta]: ...


class Serving(Protocol):
    """What an API family may call. Runs on the server's event loop. All calls raise ``RequestError``."""

    config: HooklineConfig

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        """Chunks of all choices as they come (one final chunk per choice without ``stream``).

        Closing the iterator early aborts every choice that has not ended. Errors of the request come from
        the first step of the iterator; await that before answering, so that they become HTTP statuses.
        """
        ...

    def default_sampling_params(
        self, overrides: Mapping[str, Any], *, max_new_tokens: int | None = None
    ) -> SamplingParams:
        """Sampling parameters: ``overrides`` above the server's preferred above the model's generation
        config above the built-ins. Unknown or bad values raise ``RequestError``."""
        ...

    async def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> RenderedChat:
        """A chat as prompt and token ids. Works in a thread, so that a long chat does not stop the loop."""
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

    async def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...
    async def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str: ...
    def token_text(self, token_id: int) -> str:
        """The text of one token alone (with U+FFFD for partial characters)."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes of one token."""
        ...

    def models(self) -> list[ModelCard]: ...
    def check_model(self, name: str | None) -> None:
        """Raises ``NotServedError`` listing what is served."""
        ...

    async def abort(self, rid: str | None, *, all_requests: bool = False) -> int:
        """Abort by the id that the client knows (all its choices); returns how many choices were told."""
        ...

    async def control(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Send a control request; see ``ControlRequest`` for methods."""
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
    options: Any = None


class ApiFamily(ABC):
    """A family of HTTP routes.

    Handlers run on the server's event loop and must not block it. Any ``RequestError`` that they raise
    becomes an error object with its status. ``hookline.api`` has what families share: request bodies that
    report unknown fields, event streams, work that ends when its client leaves.
    """

    def __init__(self, context: ApiContext) -> None:
        self.serving = context.serving
        self.options = context.options

    @abstractmethod
    def router(self) -> APIRouter:
        """The routes: exactly those that the spec declares. Called once; a path that another family has is an
        error that names both."""
