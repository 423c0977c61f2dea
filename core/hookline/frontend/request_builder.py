"""RequestBuilder: from what a client asks to what the scheduler gets. Shared by server and ``Engine``."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.errors import RequestError
from hookline.frontend.chat_template import ChatTemplates
from hookline.frontend.media_parts import ToSource, break_up, take_media
from hookline.frontend.output_plan import OutputPlanner
from hookline.frontend.sampling_defaults import SamplingDefaults
from hookline.frontend.served_models import ServedModels
from hookline.frontend.validation import RequestChecks
from hookline.interfaces.api import GenerateRequest, RenderedChat
from hookline.interfaces.multimodal import NO_PARAMS, MediaInput, MediaParams, MultimodalProcessor
from hookline.interfaces.parsers import PROMPT_TAIL, ReasoningContext, ReasoningSpan
from hookline.media.prepared import PreparedMedia
from hookline.messages.requests import CacheNamespace, MultimodalInputs, PoolingRequest, TokenizedRequest
from hookline.sampling_params import SamplingParams
from hookline.text.tokenizer import Tokenizer


class RequestBuilder:
    """Checks, fills defaults, tokenizes. Holds no request state; ``build`` may run in a thread.

    Raises ``ModelError`` or ``ConfigError`` at construction when the checkpoint's configuration, chat
    template or the server's sampling defaults are unusable.
    """

    def __init__(
        self, plan: EnginePlan, tokenizer: Tokenizer | None, processor: MultimodalProcessor | None = None
    ) -> None:
        """``tokenizer`` is ``None`` with ``skip_tokenizer_init``: then only token ids are taken. Without a
        ``processor`` the model takes text only."""
        config = plan.config
        model = ModelConfig.load(plan.model_path)
        self._tokenizer = tokenizer
        self._processor = processor
        reasoning = plan.plugins.of_kind("reasoning_parsers")
        self._keeps_special_tokens = any(parser.details.get("special_markers", False) for parser in reasoning)
        #: The longest prompt and output together, in tokens.
        self.context_len = config.model.max_model_len or model.context_len
        self.vocab_size = model.vocab_size
        self.models = ServedModels(
            plan.served_model_name, root=plan.model_path, max_model_len=self.context_len, adapters=plan.adapters
        )
        self._defaults = SamplingDefaults(config.model, model)
        self.outputs = OutputPlanner(plan.plugins)
        self._checks = RequestChecks(plan.plugins, model, self.context_len)
        self._templates = (
            None
            if tokenizer is None
            else ChatTemplates.load(
                plan.tokenizer_path,
                special_tokens=tokenizer.special_tokens,
                override=config.model.chat_template,
            )
        )

    @property
    def has_chat_template(self) -> bool:
        """Whether chats can be rendered."""
        return self._templates is not None and self._templates.has_default

    def default_sampling_params(
        self, overrides: Mapping[str, Any], *, max_new_tokens: int | None = None
    ) -> SamplingParams:
        """``overrides`` above the server's preferred above the checkpoint's above the built-ins."""
        return self._defaults.apply(overrides, max_new_tokens=max_new_tokens)

    @property
    def placeholders(self) -> Mapping[str, str]:
        """Kind of medium that the model takes -> the text that stands for one."""
        return {} if self._processor is None else self._processor.placeholders

    def build(self, request: GenerateRequest, media: PreparedMedia | None = None) -> list[TokenizedRequest]:
        """One request per choice, ready to send. Raises ``RequestError`` for anything that cannot run.

        ``media`` are the request's own, prepared.

        A single choice keeps the client's id; several are named ``<id>#0``, ``<id>#1``, and so on.
        """
        params = request.sampling_params
        if request.rid is not None:
            self._checks.rid(request.rid)
        self._checks.priority(request.priority)
        adapter = self.models.adapter_of(request.model)
        pooling = None if request.pooling is None else self._checks.pooling(request.pooling)
        self._checks.sampling(params)
        input_ids, multimodal = self._prompt(request, media)
        needs_room = pooling is None and params.max_new_tokens != 0
        self._checks.length(len(input_ids), needs_room=needs_room)
        self._checks.token_ids(input_ids, "input_ids")
        params = self._checks.fit_output(params, len(input_ids))
        if request.logprobs is not None:
            self._checks.logprobs(request.logprobs, len(input_ids), params)
        reasoning = None if pooling is not None else self._reasoning(request, input_ids, params)
        return self._choices(request, input_ids, params, pooling, adapter, reasoning, multimodal)

    def check_token_ids(self, ids: Sequence[int], field: str) -> None:
        """Raises ``RequestError`` naming ``field`` unless all ``ids`` are in the model's vocabulary."""
        self._checks.token_ids(ids, field)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        media_params: MediaParams = NO_PARAMS,
        to_source: ToSource | None = None,
    ) -> RenderedChat:
        """OpenAI messages as prompt and token ids, by the checkpoint's chat template, and their media.

        ``media_params`` hold for media that do not say; ``to_source`` is for what callers write as media.
        """
        if self._templates is None or self._tokenizer is None:
            raise RequestError("chat needs a tokenizer, and this server runs without one (skip_tokenizer_init)")
        placeholders = self.placeholders
        media: list[MediaInput] = []
        if placeholders and isinstance(messages, (list, tuple)):
            messages, media = take_media(messages, placeholders, defaults=media_params, to_source=to_source)
            tools = break_up(tools, placeholders)
        prompt = self._templates.choose(with_tools=bool(tools)).render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
            placeholders=placeholders,
        )
        return RenderedChat(
            prompt=prompt,
            input_ids=self._tokenizer.encode(prompt, add_special_tokens=False),
            keeps_special_tokens=self._keeps_special_tokens,
            media=tuple(media),
        )

    def _prompt(
        self, request: GenerateRequest, media: PreparedMedia | None
    ) -> tuple[list[int], MultimodalInputs | None]:
        """The prompt's ids, and the message for its media, whose places are in it."""
        if media is None or not media.media:
            return self._input_ids(request), None
        assert self._processor is not None, "media were prepared for a model that takes text only"
        if request.prompt is None or self._tokenizer is None or request.add_special_tokens:
            # What the tokenizer adds around a text, it must add before the text grows.
            prompt: str | list[int] = self._input_ids(request)
        else:
            prompt = request.prompt
        expanded = self._processor.expand(prompt, [one.media for one in media.media])
        return expanded.input_ids, media.inputs(expanded)

    def _input_ids(self, request: GenerateRequest) -> list[int]:
        if (request.prompt is None) == (request.input_ids is None):
            raise RequestError("give either a prompt (text) or input_ids (token ids)", param="prompt")
        if request.input_ids is not None:
            if isinstance(request.input_ids, (str, bytes)) or not isinstance(request.input_ids, Sequence):
                raise RequestError("input_ids must be a list of token ids", param="input_ids")
            return list(request.input_ids)
        if not isinstance(request.prompt, str):
            raise RequestError(f"the prompt must be text, not {type(request.prompt).__name__}", param="prompt")
        if self._tokenizer is None:
            raise RequestError(
                "this server runs without a tokenizer (skip_tokenizer_init); give input_ids", param="prompt"
            )
        return self._tokenizer.encode(request.prompt, add_special_tokens=request.add_special_tokens)

    def _reasoning(
        self, request: GenerateRequest, input_ids: list[int], params: SamplingParams
    ) -> ReasoningSpan | None:
        """Where the reasoning stands, if something waits for its end or bounds it."""
        context = request.reasoning
        if params.max_thinking_tokens is not None:
            return self.outputs.needed_span(context or self._context(request, input_ids))
        return None if context is None or params.grammar is None else self.outputs.span(context)

    def _context(self, request: GenerateRequest, input_ids: list[int]) -> ReasoningContext:
        """What a prompt that is no chat shows of its reasoning."""
        tail = request.prompt
        if tail is None:
            tail = "" if self._tokenizer is None else self._tokenizer.decode(input_ids[-PROMPT_TAIL:])
        return ReasoningContext(prompt_tail=tail[-PROMPT_TAIL:], template_kwargs={})

    def _choices(
        self,
        request: GenerateRequest,
        input_ids: list[int],
        params: SamplingParams,
        pooling: PoolingRequest | None,
        adapter: str | None,
        reasoning: ReasoningSpan | None,
        multimodal: MultimodalInputs | None,
    ) -> list[TokenizedRequest]:
        rid = request.rid or uuid.uuid4().hex
        count = 1 if pooling is not None else params.n
        received_at = time.time()
        # The scheduler adds the adapter's id and the weights' version: it knows what is loaded now.
        namespace = CacheNamespace(salt=request.cache_salt, extra_key=request.extra_key)
        return [
            TokenizedRequest(
                rid=rid if count == 1 else f"{rid}#{index}",
                input_ids=input_ids,
                sampling_params=params,
                stream=request.stream,
                choice_index=index,
                logprobs=request.logprobs,
                pooling=pooling,
                reasoning=reasoning,
                priority=request.priority,
                namespace=namespace,
                multimodal=multimodal,
                lora=adapter,
                received_at=received_at,
            )
            for index in range(count)
        ]
