"""The schema: every setting, its type, default and one line of help.

Leaf names are unique across sections, so that ``--max-model-len``, ``Engine(max_model_len=...)`` and
``model.max_model_len`` in a file are one thing.
"""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

Auto = Literal["auto"]
AtLeastOne = Annotated[int, Field(ge=1)]
#: Words for ``null``, which TOML, environment variables and flags cannot say.
NONE_WORDS = ("none", "null")
#: Mark of a setting whose value must never be printed; see ``hookline.config.secrets``.
SECRET: JsonDict = {"secret": True}


class Section(BaseModel):
    """Base of all sections: frozen, and strict about unknown keys and about types ("8000" is no number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _none_words(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        optional = {name for name, field in cls.model_fields.items() if NoneType in get_args(field.annotation)}
        return {
            key: None if key in optional and isinstance(value, str) and value.lower() in NONE_WORDS else value
            for key, value in values.items()
        }


class ServerConfig(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    api_key: str | None = Field(
        None,
        description="key that every request needs; env:NAME or file:PATH reads it",
        repr=False,
        json_schema_extra=SECRET,
    )
    admin_key: str | None = Field(
        None,
        description="key for control routes; without one they work on loopback only; env:NAME or file:PATH reads it",
        repr=False,
        json_schema_extra=SECRET,
    )
    served_model_name: str | None = Field(
        None, description="name that clients use; default: the model's last path part"
    )
    api_families: list[str] = Field(["native", "openai", "responses", "anthropic"], description="API families to serve")
    cors_allow_origins: list[str] = Field([], description="origins that browsers may call from")
    tls_cert_file: str | None = Field(None, description="certificate chain (PEM)")
    tls_key_file: str | None = Field(None, description="private key (PEM)")
    max_request_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="largest request body")
    max_concurrent_requests: int = Field(4096, ge=1, description="requests in flight; more get 503")
    strict_requests: bool = Field(False, description="refuse unknown request fields instead of warning in a header")
    drain_timeout: float = Field(30.0, ge=0, description="seconds that running requests get after SIGTERM")
    warmup: bool = Field(True, description="run one short request before the server is ready")

    @model_validator(mode="after")
    def _tls_pair(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: set both or neither")
        return self


class ModelSection(Section):
    """The checkpoint."""

    model: str | None = Field(None, description="directory, hub id, or name of an installed checkpoint; default: demo")
    revision: str | None = Field(None, description="branch, tag or commit of a hub checkpoint")
    tokenizer: str | None = Field(None, description="directory or id of the tokenizer; default: the model's")
    skip_tokenizer_init: bool = Field(False, description="no tokenizer: token ids in, token ids out")
    max_model_len: int | None = Field(None, ge=1, description="context length; default: the model's")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="compute dtype")
    load_format: Literal["auto", "safetensors", "dummy"] = Field("auto", description="dummy: random weights")
    moe_expert_layout: Literal["auto", "published", "transformers"] = Field(
        "auto", description="layout of fused expert tensors when both dimensions are equal"
    )
    chat_template: str | None = Field(None, description="file with a Jinja chat template; default: the checkpoint's")
    offline: bool = Field(False, description="never use the network")
    sampling_defaults: Literal["model", "builtin"] = Field(
        "model", description="whether generation_config.json sets sampling defaults"
    )
    preferred_sampling_params: dict[str, Any] = Field({}, description="server's sampling defaults, above the model's")


class ExecutionConfig(Section):
    """How the model runs."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device type")
    ops: list[str] | Auto = Field("auto", description="op sets, best first")
    cpu_threads: int | None = Field(
        None, ge=1, description="threads of CPU kernels; default: 1 for small models, else physical cores"
    )
    deterministic: bool = Field(False, description="same numbers for a request whatever else is in the batch")
    disable_overlap_schedule: bool = Field(False, description="process each step before the next is launched")
    disable_cuda_graph: bool = Field(False, description="launch the kernels of a decode one by one")
    cuda_graph_max_bs: int | None = Field(
        None, ge=1, description="largest decode batch that is captured in a CUDA graph; default: 256 if so many can run"
    )
    kernel_cache_dir: str | None = Field(
        None, description="directory for compiled kernels; default: where each library keeps its own"
    )
    seed: int = Field(0, description="seed of everything random that no request seeds")


class AttentionConfig(Section):
    """Attention."""

    attention_backend: str | list[str] = Field(
        "auto", description="attention backend; two: the first for prefills, the second for decodes"
    )


class CacheConfig(Section):
    """KV cache and prefix reuse."""

    page_size: AtLeastOne | Auto = Field("auto", description="tokens per page: 1, 16 or 64")
    kv_cache_tokens: int | None = Field(None, ge=1, description="size of the KV cache in tokens")
    kv_cache_gib: float | None = Field(None, gt=0, description="size of the KV cache in GiB")
    memory_fraction: float = Field(0.85, gt=0, le=1, description="share of free memory for weights and KV cache")
    enable_prefix_cache: bool = Field(True, description="reuse the KV of shared prefixes")
    eviction_policy: Literal["lru", "lfu", "fifo", "mru", "priority"] = Field(
        "lru", description="what leaves the cache first"
    )

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.kv_cache_tokens is not None and self.kv_cache_gib is not None:
            raise ValueError("kv_cache_tokens and kv_cache_gib say the same thing twice: set one of them")
        return self


class ScheduleConfig(Section):
    """Which requests run next."""

    scheduler: str = Field("auto", description="batch scheduler")
    schedule_policy: str = Field("fcfs", description="order of the waiting queue")
    max_running_requests: int | None = Field(None, ge=1, description="requests in one batch at most")
    max_queued_requests: int | None = Field(None, ge=1, description="waiting requests at most; more get 503")
    chunked_prefill_size: AtLeastOne | Auto | None = Field(
        "auto", description="prefill tokens of one request per pass; null: no chunks"
    )
    max_prefill_tokens: int = Field(16384, ge=1, description="prefill tokens of all requests per pass")
    enable_mixed_chunk: bool = Field(False, description="decode running requests along with a prefill chunk")
    schedule_conservativeness: float = Field(1.0, gt=0, description="above 1: reserve more for running requests")
    enable_priority: bool = Field(False, description="honour request priorities (larger first) and preempt")
    low_priority_first: bool = Field(False, description="smaller priority values first")
    priority_preemption_threshold: int = Field(10, ge=0, description="difference above which a request preempts")


class MultimodalConfig(Section):
    """Pictures, video and the like."""

    max_images: int = Field(64, ge=0, description="pictures in one request at most; 0: none are taken")
    max_videos: int = Field(8, ge=0, description="videos in one request at most; 0: none are taken")
    max_image_bytes: int = Field(20 * 1024 * 1024, ge=1, description="size of a picture's file, or of a frame's")
    max_video_bytes: int = Field(256 * 1024 * 1024, ge=1, description="size of a video's file")
    max_image_megapixels: float = Field(64.0, gt=0, description="million pixels of a picture, or of a video's frame")
    max_video_megapixels: float = Field(256.0, gt=0, description="million pixels of all frames taken of a video")
    image_min_pixels: int | None = Field(None, ge=1, description="pixels to enlarge to; default: the checkpoint's")
    image_max_pixels: int | None = Field(None, ge=1, description="pixels to shrink to; default: the checkpoint's")
    video_min_pixels: int | None = Field(None, ge=1, description="the same for videos; default: the checkpoint's")
    video_max_pixels: int | None = Field(None, ge=1, description="the same for videos; default: the checkpoint's")
    allowed_media_hosts: list[str] = Field([], description="hosts that media are fetched from; empty: any public one")
    allow_private_media_hosts: bool = Field(False, description="fetch from private and local addresses too")
    allowed_media_paths: list[str] = Field([], description="directories below which file: URLs may point")
    media_timeout: float = Field(20.0, gt=0, description="seconds for fetching one medium, redirects included")
    max_media_redirects: int = Field(3, ge=0, description="redirects to follow when fetching a medium")
    media_fetches: int = Field(32, ge=1, description="media fetched at once")
    media_decoders: int = Field(2, ge=1, description="processes that decode media")
    media_decode_timeout: float = Field(60.0, gt=0, description="seconds for decoding one medium")
    media_decode_gib: float = Field(4.0, gt=0, description="memory for decoding one medium")
    media_pool_gib: float = Field(4.0, gt=0, description="memory for the media of all requests, and recent ones")
    media_pool_timeout: float = Field(60.0, gt=0, description="seconds that a request waits for that memory")

    encoder_patch_budget: int = Field(
        4096, ge=1, description="patches that the encoder takes between two passes; larger items run alone"
    )
    encoder_attention: Literal["auto", "torch"] = Field(
        "auto", description="attention of encoders: auto: the attention backend if it can; torch: torch's own product"
    )
    embedding_cache_gib: float = Field(0.5, ge=0, description="device memory for what the encoder made")
    embedding_host_gib: float = Field(
        4.0, ge=0, description="host memory behind it, where the device has memory of its own"
    )


class GrammarConfig(Section):
    """Constrained output."""

    grammar_backend: str | list[str] = Field(
        "auto",
        description="grammar backends, best first; auto: all that fit; none switches constrained output off",
    )
    grammar_timeout: float = Field(30.0, gt=0, description="seconds that compiling one grammar may take")
    grammar_workers: int = Field(
        2,
        ge=0,
        description="grammars compiled at once, each in a killable process; 0: in the scheduler's own, unprotected",
    )
    grammar_memory_bytes: int = Field(
        1024 * 1024 * 1024, ge=1024 * 1024, description="memory that compiling one grammar may take"
    )
    grammar_step_timeout: float = Field(
        1.0,
        gt=0,
        description="seconds of processor time that a grammar may take for one token, and a tenth on average",
    )
    grammar_jump_forward: int = Field(
        0,
        ge=0,
        description="append text that a grammar forces without sampling it, if it is so many tokens; 0: off",
    )
    grammar_cache_bytes: int = Field(256 * 1024 * 1024, ge=0, description="memory for compiled grammars")


class OutputConfig(Section):
    """What happens to generated text."""

    reasoning_parser: str | None = Field("auto", description="reasoning parser; null: none")
    tool_call_parser: str | None = Field("auto", description="tool-call parser; null: none")
    unknown_functions: Literal["call", "content"] = Field(
        "call", description="what a call to a function that the request does not list is"
    )
    stream_interval: int = Field(1, ge=1, description="tokens per streamed chunk")


class LoraConfig(Section):
    """Adapters."""

    lora_backend: str = Field("auto", description="LoRA backend")
    lora_adapters: dict[str, str] = Field({}, description="name -> PEFT directory, loaded at start")
    max_loras: int = Field(8, ge=1, description="adapters loaded at once")
    max_lora_rank: int = Field(64, ge=1, description="largest rank of an adapter")


class ParallelConfig(Section):
    """Parallelism; one rank until a later release."""

    tp_size: Literal[1] = Field(1, description="tensor parallel ranks")


class ObservabilityConfig(Section):
    """Logs, metrics and checks."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line")
    log_format: Literal["text", "json"] = Field("text", description="format of log lines")
    log_requests: bool = Field(False, description="one log line per finished request")
    health_timeout: float = Field(
        60.0, gt=0, description="seconds without a step, while work exists, until /health fails"
    )
    check_ledger: bool = Field(False, description="verify pool and tree invariants after every step (slow)")


class HooklineConfig(Section):
    """All settings."""

    schema_version: Literal[1] = 1
    server: ServerConfig = ServerConfig()
    model: ModelSection = ModelSection()
    execution: ExecutionConfig = ExecutionConfig()
    attention: AttentionConfig = AttentionConfig()
    cache: CacheConfig = CacheConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    multimodal: MultimodalConfig = MultimodalConfig()
    grammar: GrammarConfig = GrammarConfig()
    output: OutputConfig = OutputConfig()
    lora: LoraConfig = LoraConfig()
    parallel: ParallelConfig = ParallelConfig()
    observability: ObservabilityConfig = ObservabilityConfig()
    #: Options of plugins: plugins.<name>.<option>; each checked by the plugin's own model.
    plugins: dict[str, dict[str, Any]] = {}
    #: Plugins that must be installed and work: ["hookline-attention>=0.1"].
    required_plugins: list[str] = []
    #: Plugins that are not loaded, by name.
    disabled_plugins: list[str] = []
    #: Name of an offer -> distribution that wins when two make it: {"attention_backends.triton": "mine"}.
    prefer: dict[str, str] = {}
