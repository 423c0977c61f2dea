"""Builds the worker of an engine plan: platform, model, backends, memory, pools."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch

from hookline.batch.encoder_orders import EncoderOrders
from hookline.cache.spec import KVSpec
from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.config.schema import HooklineConfig
from hookline.interfaces.attention import AttentionBackend, AttentionEnv
from hookline.interfaces.logits import LogitsProcessor
from hookline.interfaces.lora import LoRABackend, LoRAEnv
from hookline.interfaces.pooling import Pooler
from hookline.interfaces.worker import WorkerInfo
from hookline.kernel_cache import use_kernel_cache
from hookline.layers.build import BuildContext
from hookline.layers.model import Model
from hookline.layers.ops import Ops
from hookline.observability.timeline import Timeline
from hookline.platform import Platform, WorkQueue, create_platform
from hookline.worker.attention_backends import AttentionBackends
from hookline.worker.decode_graphs import LARGEST_GRAPH, DecodeGraphs, ladder
from hookline.worker.encoder_store import EncoderStore
from hookline.worker.kv_pool import KVPool, bytes_per_token
from hookline.worker.memory import (
    CPU_KV_LIMIT,
    DEFAULT_MAX_RUNNING,
    GIB,
    MemoryDemand,
    MemoryLedger,
    check_weights,
    estimate_activations,
    plan_memory,
)
from hookline.worker.model_loader import weight_bytes
from hookline.worker.model_runner import ModelRunner
from hookline.worker.overlap import TokenTable
from hookline.worker.pooling import RowPoolers
from hookline.worker.profile import GRAPHS_REMEDY, PassMemory, measure_passes
from hookline.worker.sampling_rows import SamplingRows
from hookline.worker.shortage import naming
from hookline.worker.step import AutoregressiveRunner
from hookline.worker.weights import Weights
from hookline.worker.worker import LocalWorker

logger = logging.getLogger(__name__)

WEIGHTS_REMEDY = "use a smaller model or a smaller dtype (model.dtype), or free memory on the device"
#: Told of loading progress: (what, done, total).
Progress = Callable[[str, int, int], None]


def build_worker(
    plan: EnginePlan,
    *,
    progress: Progress | None = None,
    platform: Platform | None = None,
    timeline: Timeline | None = None,
) -> LocalWorker:
    """Load the model of ``plan`` and take the memory that it needs, on ``platform`` or else the plan's device.

    ``timeline`` learns when weights, kernels and graphs were done.

    Raises ``ModelError`` for a checkpoint at fault, ``PluginError`` for a plugin that does not load,
    ``ConfigError`` for a device that is not there and ``MemoryBudgetError`` for what does not fit.
    """
    config = plan.config
    use_kernel_cache(config.execution.kernel_cache_dir)
    if platform is None:
        platform = create_platform(config.execution.device, cpu_threads=config.execution.cpu_threads)
    return _Builder(plan, config, platform).build(progress, timeline or Timeline())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    max_running: int
    max_context_len: int
    page_size: int


class _Builder:
    """The parts of one worker while they are put together."""

    def __init__(self, plan: EnginePlan, config: HooklineConfig, platform: Platform) -> None:
        self._plan = plan
        self._config = config
        self._platform = platform
        self._model_config = ModelConfig.load(plan.model_dir)
        self._dtype: torch.dtype = getattr(torch, config.model.dtype)
        page_size = config.cache.page_size
        assert isinstance(page_size, int), "resolution fills cache.page_size"
        self._sizes = _Sizes(
            max_running=config.schedule.max_running_requests or DEFAULT_MAX_RUNNING[config.execution.device],
            max_context_len=config.model.max_model_len or self._model_config.context_len,
            page_size=page_size,
        )
        self._ops = self._build_ops()
        self._attention = AttentionBackends(plan.plugins)

    def build(self, progress: Progress | None, timeline: Timeline) -> LocalWorker:
        """Everything, in the order in which memory must be taken."""
        platform, sizes = self._platform, self._sizes
        free = platform.memory().free
        model = self._build_model(free)
        with naming("slots for adapters", "set lora.max_loras or lora.max_lora_rank to a smaller number", platform):
            lora = self._build_lora(model)
        weights = Weights(
            model,
            self._plan.model_dir,
            platform,
            lora=lora,
            is_dummy=self._config.model.load_format == "dummy",
            expert_layout=self._config.model.moe_expert_layout,
        )
        with naming("the weights", WEIGHTS_REMEDY, platform):
            weights.load(None if progress is None else lambda done, total: progress("weights", done, total))
        timeline.mark("weights")
        with naming("the attention backend's workspace", "name another attention.attention_backend", platform):
            attention = self._attention.build(self._decoder_env())
        queue = platform.queue()
        specs = self._kv_specs(model)
        ledger = self._plan_memory(model, attention, lora, queue, specs, free)
        logger.info("%s", ledger)
        max_running = min(sizes.max_running, ledger.num_tokens // sizes.page_size)
        kv = KVPool(specs, num_tokens=ledger.num_tokens, page_size=sizes.page_size, platform=platform)
        graphs = self._graph_sizes(max_running)
        if not graphs and platform.captures_graphs and not self._config.execution.disable_cuda_graph:
            name = self._attention.of_decodes.name
            logger.warning("decode runs without graphs: attention backend '%s' does not support them", name)
        steps = self._build_steps(model, attention, lora, kv, queue, max_running, graphs)
        timeline.mark("kernels")
        with naming("captured decodes", GRAPHS_REMEDY, platform):
            if graphs and platform.counts_allocations:
                ledger = ledger.with_graphs(platform.measure_held(steps.prepare))
                logger.info("%s", ledger)
            else:
                steps.prepare()
        timeline.mark("graphs")
        info = WorkerInfo(
            max_total_tokens=ledger.num_tokens,
            max_running_requests=max_running,
            max_context_len=sizes.max_context_len,
            page_size=sizes.page_size,
            vocab_size=self._model_config.vocab_size,
            position_planes=self._model_config.position_planes,
            memory_ledger=ledger.terms(),
            device=str(platform.device),
            embedding_row_bytes=model.encoder_row_size * self._dtype.itemsize,
            embedding_cache_bytes=ledger.embeddings,
            embedding_host_bytes=self._embedding_host_bytes(model),
        )
        return LocalWorker(info, steps, weights, kv, queue, steps.encoder, lora)

    # --- parts ---

    def _build_model(self, free: int) -> Model:
        chosen = self._plan.plugins.one("models")
        model_type: type[Model] = self._plan.plugins.load(chosen)
        ctx = BuildContext(
            device=self._platform.device,
            dtype=self._dtype,
            ops=self._ops,
            max_positions=self._sizes.max_context_len,
            encoder_backend=self._encoder_backend,
        )
        with naming("the weights", WEIGHTS_REMEDY, self._platform):
            model = model_type(self._model_config, ctx)
        # Nothing was written yet: on a CPU, memory that was asked for is not taken before.
        check_weights(weight_bytes(model.parameters), free)
        return model

    def _build_ops(self) -> Ops:
        sets: list[Mapping[str, Callable[..., Any]]] = []
        deterministic = self._config.execution.deterministic
        for spec in self._plan.plugins.of_kind("ops"):
            if deterministic:
                target = spec.details.get("deterministic_target", "")
                if not target:
                    continue
                spec = msgspec.structs.replace(spec, target=target)
            offer = self._plan.plugins.load(spec)
            sets.append(offer(self._platform.device, self._dtype, self._plan.plugins.options_of(spec)))
        return Ops(sets, deterministic=deterministic)

    def _build_lora(self, model: Model) -> LoRABackend | None:
        chosen = self._plan.plugins.of_kind("lora_backends")
        if not chosen:
            return None
        backend: type[LoRABackend] = self._plan.plugins.load(chosen[0])
        return backend(
            LoRAEnv(
                device=self._platform.device,
                dtype=self._dtype,
                layers=dict(model.linears),
                max_adapters=self._config.lora.max_loras,
                max_rank=self._config.lora.max_lora_rank,
                map_weight=model.map_weight,
                deterministic=self._config.execution.deterministic,
                options=self._plan.plugins.options_of(chosen[0]),
            )
        )

    def _encoder_backend(self, num_heads: int, head_dim: int) -> AttentionBackend | None:
        """A backend for the heads of an encoder of media, or ``None`` for torch's own attention."""
        if self._config.multimodal.encoder_attention == "torch":
            return None
        return self._attention.build_encoder(
            self._attention_env(page_size=1, num_q_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim)
        )

    def _decoder_env(self) -> AttentionEnv:
        model = self._model_config
        return self._attention_env(
            page_size=self._sizes.page_size,
            num_q_heads=model.num_q_heads,
            num_kv_heads=model.num_kv_heads,
            head_dim=model.head_dim,
        )

    def _attention_env(self, *, page_size: int, num_q_heads: int, num_kv_heads: int, head_dim: int) -> AttentionEnv:
        execution = self._config.execution
        return AttentionEnv(
            device=self._platform.device,
            dtype=self._dtype,
            page_size=page_size,
            num_q_heads=num_q_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            max_context_len=self._sizes.max_context_len,
            max_running_requests=self._sizes.max_running,
            deterministic=execution.deterministic,
            kernel_cache_dir=execution.kernel_cache_dir,
        )

    def _kv_specs(self, model: Model) -> list[KVSpec]:
        return [
            KVSpec(
                layer_id=layer.layer_id,
                num_kv_heads=layer.num_kv_heads,
                head_dim=layer.head_dim,
                v_head_dim=layer.v_head_dim,
                dtype=self._config.model.dtype,
            )
            for layer in model.attention_layers
        ]

    def _build_steps(
        self,
        model: Model,
        attention: AttentionBackend,
        lora: LoRABackend | None,
        kv: KVPool,
        queue: WorkQueue,
        num_rows: int,
        graphs: Sequence[int] = (),
    ) -> AutoregressiveRunner:
        """``graphs``: decode batch sizes to capture."""
        plugins = self._plan.plugins
        processors: dict[str, LogitsProcessor] = {
            spec.name: plugins.load(spec)() for spec in plugins.of_kind("logits_processors")
        }
        poolers: dict[str, Callable[[], Pooler]] = {
            spec.name: plugins.load(spec) for spec in plugins.of_kind("poolers")
        }
        runner = ModelRunner(
            model,
            attention,
            kv,
            self._platform,
            num_rows=num_rows,
            max_context_len=self._sizes.max_context_len,
            lora=lora,
        )
        rows = SamplingRows(
            num_rows, self._model_config.vocab_size, seed=self._config.execution.seed, processors=processors
        )
        tokens = TokenTable(runner.req_to_token.shape[0], self._platform.device)
        captured: DecodeGraphs | None = None
        if graphs:
            planes = self._model_config.position_planes
            captured = DecodeGraphs(runner, tokens, self._platform, self._ops, graphs, position_planes=planes)
        encoder = EncoderStore(model, self._platform, self._dtype)
        return AutoregressiveRunner(
            runner, self._platform, queue, rows, tokens, RowPoolers(poolers), encoder, self._ops, captured
        )

    def _graph_sizes(self, max_running: int) -> list[int]:
        """Decode batch sizes to capture; none where there is nothing to capture with."""
        execution = self._config.execution
        if execution.disable_cuda_graph or not self._platform.captures_graphs:
            return []
        if "graphs" not in self._attention.of_decodes.features:
            return []
        return ladder(min(max_running, execution.cuda_graph_max_bs or LARGEST_GRAPH))

    # --- memory ---

    def _measure_encoder(self, model: Model) -> int:
        """Bytes that a portion of an encoder's work takes at its peak; compiles its kernels on the way."""
        item = model.example_item(self._config.multimodal.encoder_patch_budget)
        if item is None:
            return 0
        store = EncoderStore(model, self._platform, self._dtype)
        orders = EncoderOrders(encode=[item])
        return self._platform.measure_peak(lambda: store.carry_out(orders, store.copy_in([item])))

    def _embedding_bytes(self, model: Model) -> int:
        """Device memory for embedding rows of media."""
        return int(self._config.multimodal.embedding_cache_gib * GIB) if model.encoder_row_size else 0

    def _embedding_host_bytes(self, model: Model) -> int:
        """Host memory behind it; the processor's own memory needs no second tier."""
        if not model.encoder_row_size or self._platform.reads_are_free:
            return 0
        return int(self._config.multimodal.embedding_host_gib * GIB)

    def _plan_memory(
        self,
        model: Model,
        attention: AttentionBackend,
        lora: LoRABackend | None,
        queue: WorkQueue,
        specs: list[KVSpec],
        free: int,
    ) -> MemoryLedger:
        sizes, platform = self._sizes, self._platform
        held = weight_bytes(model.parameters)
        pass_tokens = self._config.schedule.max_prefill_tokens

        def steps_over(kv: KVPool) -> AutoregressiveRunner:
            graphs = self._graph_sizes(sizes.max_running)
            return self._build_steps(model, attention, lora, kv, queue, sizes.max_running, graphs)

        if platform.counts_allocations:
            passes = measure_passes(
                platform,
                specs,
                steps_over,
                num_tokens=pass_tokens,
                num_rows=sizes.max_running,
                max_context_len=sizes.max_context_len,
                page_size=sizes.page_size,
                position_planes=self._model_config.position_planes,
                queue=queue,
            )
            passes = replace(passes, activations=max(passes.activations, self._measure_encoder(model)))
            # What is gone beyond the parameters (library workspaces, loaded kernels, adapter slots) counts too.
            held = max(held, free - platform.memory().free)
        else:
            activations = estimate_activations(
                self._model_config, num_tokens=pass_tokens, num_rows=sizes.max_running, itemsize=self._dtype.itemsize
            )
            passes = PassMemory(activations=activations, graphs=0, tables=0)
        return plan_memory(
            self._config.cache,
            MemoryDemand(
                free=free,
                weights=held,
                activations=passes.activations,
                pass_tokens=pass_tokens,
                graphs=passes.graphs,
                tables=passes.tables,
                # A layer has two planes.
                rounding=2 * len(specs) * (platform.allocation_unit - 1),
                embeddings=self._embedding_bytes(model),
                bytes_per_token=bytes_per_token(specs),
                page_size=sizes.page_size,
                max_running_requests=sizes.max_running,
                max_context_len=sizes.max_context_len,
                kv_limit=CPU_KV_LIMIT if platform.device.type == "cpu" else None,
            ),
        )
