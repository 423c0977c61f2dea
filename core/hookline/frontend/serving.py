"""EngineServing: the facade that API families call, on top of the tokenizer manager."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hookline.config.engine_plan import EnginePlan
from hookline.config.schema import HooklineConfig
from hookline.errors import RequestError
from hookline.frontend.output_parser import build_output_parser
from hookline.frontend.tokenizer_manager import TokenizerManager
from hookline.interfaces.api import CallRules, Chunk, GenerateRequest, ModelCard, OutputParser, RenderedChat
from hookline.interfaces.multimodal import NO_PARAMS, MediaParams
from hookline.sampling_params import SamplingParams
from hookline.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReports:
    """What the launcher knows and routes show."""

    #: For /server_info; the launcher adds what processes report of themselves.
    info: dict[str, Any] = field(default_factory=dict)
    #: For /plugins.
    plugins: dict[str, Any] = field(default_factory=dict)


class EngineServing:
    """Implements ``hookline.interfaces.api.Serving``."""

    def __init__(
        self, plan: EnginePlan, manager: TokenizerManager, tokenizer: Tokenizer | None, reports: ServerReports
    ) -> None:
        """Raises ``PluginError`` if a chosen parser does not load."""
        self.config: HooklineConfig = plan.config
        self._plan = plan
        self._manager = manager
        self._builder = manager.builder
        self._tokenizer = tokenizer
        self._reports = reports
        # A parser that does not load must stop the start, not the first request.
        for kind in ("reasoning_parsers", "function_call_parsers"):
            for spec in plan.plugins.of_kind(kind):
                plan.plugins.load(spec)

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        return self._manager.generate(request)

    def default_sampling_params(
        self, overrides: Mapping[str, Any], *, max_new_tokens: int | None = None
    ) -> SamplingParams:
        return self._builder.default_sampling_params(overrides, max_new_tokens=max_new_tokens)

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
        def render() -> RenderedChat:
            return self._builder.render_chat(
                messages,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                template_kwargs=template_kwargs,
                media_params=media_params or NO_PARAMS,
            )

        return await self._manager.off_loop(render, size=_text_size(messages) + _text_size(tools))

    def output_parser(
        self,
        rendered: RenderedChat,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        template_kwargs: Mapping[str, Any] | None = None,
        separate_reasoning: bool = True,
    ) -> OutputParser:
        return build_output_parser(
            self._plan.plugins,
            rendered,
            tools=tools,
            template_kwargs=template_kwargs,
            separate_reasoning=separate_reasoning,
            unknown_functions=self.config.output.unknown_functions,
        )

    def constrained(
        self,
        sampling_params: SamplingParams,
        rendered: RenderedChat,
        rules: CallRules,
        *,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> SamplingParams | None:
        return self._builder.outputs.constrained(sampling_params, rules, rendered.reasoning_context(template_kwargs))

    async def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        tokenizer = self._need_tokenizer()
        return await self._manager.off_loop(
            lambda: tokenizer.encode(text, add_special_tokens=add_special_tokens), size=len(text)
        )

    async def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        tokenizer = self._need_tokenizer()
        self._builder.check_token_ids(ids, "tokens")
        return await self._manager.off_loop(
            lambda: tokenizer.decode(ids, skip_special_tokens=skip_special_tokens), size=len(ids)
        )

    def token_text(self, token_id: int) -> str:
        return self._need_tokenizer().token_text(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return self._need_tokenizer().token_bytes(token_id)

    def models(self) -> list[ModelCard]:
        return self._builder.models.cards()

    def check_model(self, name: str | None) -> None:
        self._builder.models.adapter_of(name)

    async def abort(self, rid: str | None, *, all_requests: bool = False) -> int:
        return self._manager.abort(rid, all_requests=all_requests)

    async def control(self, method: str, **arguments: Any) -> dict[str, Any]:
        answer = await self._manager.control(method, arguments)
        if method == "load_adapter":
            self._builder.models.add_adapter(arguments["name"], arguments["path"])
        elif method == "unload_adapter":
            self._builder.models.remove_adapter(arguments["name"])
        return answer

    def readiness(self) -> tuple[bool, str]:
        return self._manager.state.readiness()

    def health(self) -> tuple[bool, str]:
        return self._manager.state.health(self._manager.num_open_choices)

    def server_info(self) -> dict[str, Any]:
        return {
            **self._reports.info,
            "ready": self.readiness()[0],
            "requests_in_flight": self._manager.num_in_flight,
            "scheduler": self._manager.scheduler_report(),
        }

    def plugin_report(self) -> dict[str, Any]:
        return self._reports.plugins

    def metrics(self) -> tuple[bytes, str]:
        return self._manager.metrics.exposition()

    def _need_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RequestError("this server runs without a tokenizer (skip_tokenizer_init)")
        return self._tokenizer


def _text_size(value: object) -> int:
    """Characters in a tree of JSON values, roughly."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_text_size, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_text_size, value))
    return 1
