"""Engine: the Python API, in one process, with neither HTTP nor ZMQ."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hookline.config.resolve import resolve_engine
from hookline.config.sources import LoadedConfig, load_config
from hookline.engine_core import EngineCore
from hookline.engine_mail import EngineMail
from hookline.engine_media import EngineMedia, to_source, with_media
from hookline.errors import RequestError
from hookline.frontend.output_parser import build_output_parser
from hookline.frontend.request_builder import RequestBuilder
from hookline.interfaces.api import CallRules, Chunk, GenerateRequest, OutputParser
from hookline.interfaces.multimodal import MediaInput
from hookline.media.factory import build_processor
from hookline.media.prepared import PreparedMedia
from hookline.messages.requests import LogprobRequest, PoolingRequest, TokenizedRequest
from hookline.observability.timeline import Timeline, timeline_text
from hookline.outputs import ChatBuilder, ChatDelta, ChatOutput, ChoiceBuilder, EmbeddingOutput, GenerationOutput
from hookline.plugins.manager import load_plugins
from hookline.progress import ProgressBars
from hookline.sampling_params import SamplingParams
from hookline.text.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

#: Sampling settings: an object, or a dictionary above the model's and server's defaults.
Params = SamplingParams | Mapping[str, Any]


class Engine:
    """An engine in this process.

    ``model`` is a directory, a hub id, or the name of an installed checkpoint; ``None`` is the demo model.
    Keyword arguments are the config's leaf names (``max_model_len=4096``); ``config_files`` are read first.
    All calls must come from one thread at a time; several ``stream`` iterators may be open at once.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        config_files: Sequence[str | Path] = (),
        plugins: Mapping[str, Mapping[str, Any]] | None = None,
        progress: bool = False,
        **settings: Any,
    ) -> None:
        if model is not None:
            settings["model"] = str(model)
        self._start(load_config(files=config_files, keywords=settings, plugins=plugins or {}), progress)

    @classmethod
    def from_config(cls, loaded: LoadedConfig, *, progress: bool = False) -> Self:
        """An engine with a configuration that was loaded already (by a command line)."""
        engine = cls.__new__(cls)
        engine._start(loaded, progress)
        return engine

    def _start(self, loaded: LoadedConfig, progress: bool) -> None:
        timeline = Timeline()
        registry = load_plugins(loaded.config)
        self.plan = resolve_engine(loaded.config, registry)
        timeline.mark("config")
        self.config = self.plan.config
        tokenizer = None if self.config.model.skip_tokenizer_init else load_tokenizer(self.plan.tokenizer_path)
        self._tokenizer = tokenizer
        self._bars = ProgressBars(enabled=progress)
        self._core = EngineCore(self.plan, tokenizer, progress=self._bars.loading, timeline=timeline)
        processor = build_processor(self.plan, tokenizer)
        self._media = None if processor is None else EngineMedia(self.plan, processor)
        self._builder = RequestBuilder(self.plan, tokenizer, processor)
        self._mail = EngineMail(self._core)
        self._closed = False
        timeline.mark("ready")
        #: Phase -> seconds: "config", "weights", "kernels", "graphs", "ready".
        self.start_timeline = timeline.seconds
        logger.info("start: %s", timeline_text(self.start_timeline))

    # --- generation ---

    def generate(
        self,
        prompts: str | Sequence[str] | None = None,
        sampling_params: Params | Sequence[Params] | None = None,
        *,
        input_ids: Sequence[Sequence[int]] | None = None,
        images: Any = None,
        videos: Any = None,
        logprobs: LogprobRequest | None = None,
        lora: str | Sequence[str | None] | None = None,
        priority: int | Sequence[int] = 0,
        cache_salt: str = "",
    ) -> list[GenerationOutput]:
        """Generate for all prompts together; the outputs come in the prompts' order, choices in a row.

        Give either ``prompts`` (texts) or ``input_ids`` (token ids). ``sampling_params`` is one for all or
        one per prompt; ``None`` uses the model's defaults. ``lora`` and ``priority`` likewise.

        ``images`` and ``videos`` are those of the one prompt, or a list for each of several prompts, where their
        placeholders must stand: PIL pictures, arrays [H, W, 3] of uint8, bytes, paths or URLs; a video is a file or
        its frames.

        Raises ``RequestError`` for the first invalid or failed request, after ending the others.
        """
        requests = self._requests(prompts, input_ids, sampling_params, logprobs, lora, priority, cache_salt)
        requests = with_media(requests, images, videos, is_list=not isinstance(prompts, str))
        choices, built, media = self._build(requests)
        with self._bars.generation(len(choices)) as bar:
            for chunk in self._mail.chunks(choices, built, media):
                if chunk.finish_reason is not None:
                    bar.update(choices[chunk.rid].output_ids)
        return [choice.generation() for choice in choices.values()]

    def stream(
        self,
        prompt: str | None = None,
        sampling_params: Params | None = None,
        *,
        input_ids: Sequence[int] | None = None,
        images: Any = None,
        videos: Any = None,
        logprobs: LogprobRequest | None = None,
        lora: str | None = None,
    ) -> Generator[Chunk, None, None]:
        """Chunks of one prompt's choices as they come; leaving the loop early aborts the rest.

        ``images`` and ``videos`` as for ``generate``.

        Raises ``RequestError`` when the request is invalid or fails.
        """
        prompts = None if prompt is None else [prompt]
        ids = None if input_ids is None else [input_ids]
        requests = self._requests(prompts, ids, sampling_params, logprobs, lora, 0, "")
        requests = with_media(requests, images, videos, is_list=False)
        return self._mail.chunks(*self._build([replace(request, stream=True) for request in requests]))

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling_params: Params | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        chat_template_kwargs: Mapping[str, Any] | None = None,
        lora: str | None = None,
    ) -> ChatOutput:
        """Answer a conversation of OpenAI message objects; one choice (``n`` must be 1).

        Without ``max_new_tokens`` the answer may fill the context. Media parts of messages may hold PIL pictures,
        arrays [H, W, 3] of uint8, bytes, paths and URLs: ``{"type": "image", "image": picture}``.
        """
        answer = ChatBuilder()
        for delta in self.stream_chat(
            messages, sampling_params, tools=tools, chat_template_kwargs=chat_template_kwargs, lora=lora
        ):
            answer.add(delta)
        return answer.output()

    def stream_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling_params: Params | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        chat_template_kwargs: Mapping[str, Any] | None = None,
        lora: str | None = None,
    ) -> Generator[ChatDelta, None, None]:
        """``chat`` piece by piece; one choice (``n`` must be 1)."""
        rendered = self._builder.render_chat(
            messages, tools=tools, template_kwargs=chat_template_kwargs, to_source=to_source
        )
        params = self._params(sampling_params, max_new_tokens=None)
        if params.n != 1:
            raise RequestError(f"chat gives one choice; n must be 1, not {params.n}", param="n")
        if rendered.stop:
            params = params.replace(stop=(*params.stop, *rendered.stop))
        if tools or rendered.keeps_special_tokens:
            # What the parsers look for may be special tokens.
            params = params.replace(skip_special_tokens=False)
        parser = build_output_parser(
            self.plan.plugins,
            rendered,
            tools=tools,
            template_kwargs=chat_template_kwargs,
            unknown_functions=self.config.output.unknown_functions,
        )
        context = rendered.reasoning_context(chat_template_kwargs)
        params = self._builder.outputs.constrained(params, CallRules(tools=tools), context) or params
        request = GenerateRequest(
            input_ids=rendered.input_ids,
            sampling_params=params,
            model=lora,
            stream=True,
            reasoning=context,
            media=rendered.media,
        )
        return self._chat_deltas(self._mail.chunks(*self._build([request])), parser)

    def _chat_deltas(self, chunks: Iterator[Chunk], parser: OutputParser) -> Generator[ChatDelta, None, None]:
        for chunk in chunks:
            split, found = parser.feed(chunk.text)
            yield ChatDelta(reasoning=split.reasoning, text=found.content, tool_calls=found.calls, chunk=chunk)
            if chunk.finish_reason is not None:
                split, found = parser.finish()
                yield ChatDelta(reasoning=split.reasoning, text=found.content, tool_calls=found.calls)

    def encode(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        input_ids: Sequence[Sequence[int]] | None = None,
        pooling: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
    ) -> list[EmbeddingOutput]:
        """One vector per prompt. ``pooling`` names a pooler (LAST, CLS, MEAN, or a plugin's); default: the model's."""
        params = SamplingParams(max_new_tokens=0)
        wish = PoolingRequest(pooling=pooling, normalize=normalize, dimensions=dimensions)
        requests = [
            GenerateRequest(prompt=prompt, input_ids=ids, sampling_params=params, pooling=wish)
            for prompt, ids in _prompts(prompts, input_ids)
        ]
        choices, built, media = self._build(requests)
        for _ in self._mail.chunks(choices, built, media):
            pass
        return [choice.embedding() for choice in choices.values()]

    # --- tokens, control, life ---

    @property
    def model_path(self) -> str:
        """Directory of the checkpoint that is served."""
        return self.plan.model_path

    @property
    def vocab_size(self) -> int:
        """Rows of the logits; token ids are below it."""
        return self._builder.vocab_size

    @property
    def max_context_len(self) -> int:
        """Tokens that a request may have, prompt and output together."""
        return self._builder.context_len

    def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        return self._need_tokenizer().encode(text, add_special_tokens=add_special_tokens)

    def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        return self._need_tokenizer().decode(list(ids), skip_special_tokens=skip_special_tokens)

    def update_weights(self, path: str | Path) -> None:
        """Load other weights of the same architecture; on failure the old ones stay and ``RequestError`` says why."""
        self._core.control("update_weights", path=str(path))

    def release_memory(self, tags: Sequence[str] = ("kv", "weights")) -> None:
        """Give the device's memory back while idle."""
        self._core.control("release_memory", tags=list(tags))

    def resume_memory(self, tags: Sequence[str] = ("kv", "weights")) -> None:
        """Take the device's memory again."""
        self._core.control("resume_memory", tags=list(tags))

    def flush_cache(self) -> None:
        """Empty the prefix cache; ``RequestError`` while requests run."""
        self._core.control("flush_cache")

    def server_state(self) -> dict[str, Any]:
        """Counters, pools and the memory ledger."""
        return self._core.control("server_state")

    def close(self) -> None:
        """Free the device. Safe to call twice."""
        if not self._closed:
            self._closed = True
            if self._media is not None:
                self._media.close()
            self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- below: how requests become chunks ---

    def _requests(
        self,
        prompts: str | Sequence[str] | None,
        input_ids: Sequence[Sequence[int]] | None,
        sampling_params: Any,
        logprobs: LogprobRequest | None,
        lora: str | Sequence[str | None] | None,
        priority: int | Sequence[int],
        cache_salt: str,
    ) -> list[GenerateRequest]:
        pairs = _prompts(prompts, input_ids)
        params = _each("sampling_params", sampling_params, len(pairs))
        adapters = _each("lora", lora, len(pairs))
        priorities = _each("priority", priority, len(pairs))
        return [
            GenerateRequest(
                prompt=prompt,
                input_ids=ids,
                sampling_params=self._params(own, max_new_tokens=128),
                model=adapter,
                logprobs=logprobs,
                priority=rank,
                cache_salt=cache_salt,
            )
            for (prompt, ids), own, adapter, rank in zip(pairs, params, adapters, priorities, strict=True)
        ]

    def _params(
        self, given: SamplingParams | Mapping[str, Any] | None, *, max_new_tokens: int | None
    ) -> SamplingParams:
        if isinstance(given, SamplingParams):
            return given
        return self._builder.default_sampling_params(given or {}, max_new_tokens=max_new_tokens)

    def _build(
        self, requests: Sequence[GenerateRequest]
    ) -> tuple[dict[str, ChoiceBuilder], list[TokenizedRequest], list[PreparedMedia]]:
        """Check and tokenize all requests before the first one is sent: an invalid one starts nothing."""
        if self._closed:
            raise RequestError("the engine is closed")
        choices: dict[str, ChoiceBuilder] = {}
        built: list[TokenizedRequest] = []
        media: list[PreparedMedia] = []
        try:
            for index, request in enumerate(requests):
                own = self._prepare(request.media)
                media.append(own)
                for one in self._builder.build(request, own):
                    choices[one.rid] = ChoiceBuilder(index, one.choice_index)
                    built.append(one)
        except BaseException:
            for own in media:
                own.release()
            raise
        return choices, built, media

    def _prepare(self, media: Sequence[MediaInput]) -> PreparedMedia:
        if media and self._media is None:
            raise RequestError(f"{media[0].where}: this model takes text only", code="unsupported_content")
        return PreparedMedia(media=[]) if self._media is None or not media else self._media.prepare(media)

    def _need_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RequestError("this engine has no tokenizer (skip_tokenizer_init); give input_ids")
        return self._tokenizer


def _prompts(
    prompts: str | Sequence[str] | None, input_ids: Sequence[Sequence[int]] | None
) -> list[tuple[str | None, Sequence[int] | None]]:
    if (prompts is None) == (input_ids is None):
        raise RequestError("give either prompts (texts) or input_ids (lists of token ids)", param="prompts")
    if prompts is not None:
        return [(text, None) for text in ([prompts] if isinstance(prompts, str) else prompts)]
    assert input_ids is not None
    for ids in input_ids:
        if isinstance(ids, int):
            raise RequestError("input_ids must be a list of lists of token ids: [[1, 2, 3]]", param="input_ids")
    return [(None, ids) for ids in input_ids]


def _each(name: str, value: Any, count: int) -> list[Any]:
    """One value per prompt, from one for all or a list."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise RequestError(f"{name} has {len(value)} entries for {count} prompts; give one, or one each", param=name)
    return list(value)
