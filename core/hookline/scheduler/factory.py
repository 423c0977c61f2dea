"""build_scheduler: puts a Scheduler together from the parts and the plan's plugins."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookline.cache.allocator import PagedAllocator
from hookline.cache.embedding_cache import EmbeddingCache
from hookline.cache.no_cache import NoCache
from hookline.cache.placeholder_ids import PlaceholderIds
from hookline.cache.pools import ReqToTokenPool
from hookline.cache.radix_cache import RadixCache
from hookline.config.model_config import ModelConfig
from hookline.errors import PluginError
from hookline.interfaces.scheduling import BatchScheduler, SchedulerEnv
from hookline.scheduler.adapters import AdapterTable
from hookline.scheduler.checks import LedgerCheck
from hookline.scheduler.control import Control
from hookline.scheduler.execution import Execution
from hookline.scheduler.finisher import Finisher
from hookline.scheduler.grammar import GrammarCompiler, GrammarGates
from hookline.scheduler.grammar_chain import BackendChain, backend_links
from hookline.scheduler.grammar_host import HostSetup
from hookline.scheduler.grammar_makers import GrammarMaker, HostedMaker, LocalMaker
from hookline.scheduler.inbox import Inbox
from hookline.scheduler.intake import Intake, IntakeLimits
from hookline.scheduler.jump_forward import JumpForward
from hookline.scheduler.kv_ledger import KVLedger
from hookline.scheduler.masks import MaskFiller
from hookline.scheduler.media import MediaHost
from hookline.scheduler.outbox import Outbox
from hookline.scheduler.pipeline import Pipeline
from hookline.scheduler.planner import Planner
from hookline.scheduler.recovery import Recovery
from hookline.scheduler.results import Results
from hookline.scheduler.roster import Roster
from hookline.scheduler.scheduler import Scheduler
from hookline.scheduler.stats import Counters, StatsReporter
from hookline.scheduler.stops import StopChecker, StopTexts
from hookline.scheduler.thinking import ThinkingMatchers
from hookline.scheduler.waits import GateSource, HoldSource, WaitRoom
from hookline.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from hookline.config.engine_plan import EnginePlan
    from hookline.config.schema import HooklineConfig
    from hookline.interfaces.worker import Worker, WorkerInfo
    from hookline.messages.transport import Receiver, Sender
    from hookline.plugins.plan import ChosenSpec, PluginPlan
    from hookline.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

#: Threads that fill masks, at most.
_MAX_MASK_THREADS = 8

#: Chunk size where resolution left it to the scheduler.
_DEFAULT_CHUNK = 2048


def build_scheduler(
    plan: EnginePlan,
    worker: Worker,
    receiver: Receiver[Any],
    sender: Sender[Any],
    *,
    gate_sources: Sequence[GateSource] = (),
    hold_sources: Sequence[HoldSource] = (),
) -> Scheduler:
    """The scheduler of an engine, its adapters loaded.

    ``receiver`` gives TokenizedRequest, AbortReq and ControlRequest; ``sender`` takes BatchTokenOutput,
    BatchEmbeddingOutput, ControlReply and SchedulerStats.

    Raises ``PluginError`` when the chosen scheduler or policy cannot be made, ``ModelError`` for an adapter.
    """
    config = plan.config
    info = worker.info
    model = ModelConfig.load(plan.model_path)
    allocator = PagedAllocator(info.max_total_tokens, info.page_size, check=config.observability.check_ledger)
    has_cache = config.cache.enable_prefix_cache
    prefixes = RadixCache(allocator, config.cache.eviction_policy) if has_cache else NoCache()
    ledger = KVLedger(allocator, ReqToTokenPool(info.max_running_requests, info.max_context_len), prefixes)
    roster = Roster()
    counters = Counters()
    outbox = Outbox(sender)
    tokenizer = None if config.model.skip_tokenizer_init else cache(partial(load_tokenizer, plan.tokenizer_path))
    gates = _grammar_gates(plan, config, tokenizer, model.eos_token_ids, info.vocab_size)
    embeddings = EmbeddingCache(info.embedding_cache_bytes, info.embedding_host_bytes)
    media = MediaHost(
        worker,
        roster,
        ledger,
        embeddings,
        PlaceholderIds(),
        counters,
        patch_budget=config.multimodal.encoder_patch_budget,
    )
    waits = WaitRoom([gates, media.gate, *gate_sources], hold_sources)
    adapters = AdapterTable(worker, config.lora.max_loras)
    finisher = Finisher(roster, waits, ledger, adapters, media, outbox)
    stats = StatsReporter(roster, waits, ledger, counters, embeddings, outbox)
    limits = _limits(plan.plugins, config, model, info, allocator.num_slots)
    intake = Intake(limits, roster, waits, adapters, media, finisher, StopTexts(tokenizer))
    batch_scheduler, name = _batch_scheduler(plan.plugins, config, info, allocator.num_slots)
    can_mix = all("mixed" in spec.features for spec in plan.plugins.of_kind("attention_backends"))
    execution = Execution(roster, ledger, finisher, counters, name, can_mix=can_mix)
    stops = StopChecker(info.vocab_size)
    recovery = Recovery(roster, ledger, execution, finisher)
    jumps = _jump_forward(config, tokenizer, execution, stops)
    results = Results(roster, media, finisher, stops, outbox, counters, recovery, jumps)
    masks = MaskFiller(info.vocab_size, roster, finisher, num_threads=_mask_threads())
    pipeline = Pipeline(worker, ledger, execution, media, masks, results, stats, batch_scheduler.on_result)
    control = Control(
        worker, roster, waits, ledger, intake, execution, adapters, media, gates.compiler, pipeline, stats, outbox
    )
    for adapter, path in plan.adapters.items():
        adapters.load(adapter, Path(path))
    return Scheduler(
        inbox=Inbox(receiver, roster, intake, finisher, control, outbox),
        planner=Planner(
            batch_scheduler,
            name,
            execution,
            roster,
            waits,
            ledger,
            stats,
            has_prefix_cache=has_cache,
        ),
        pipeline=pipeline,
        roster=roster,
        waits=waits,
        media=media,
        finisher=finisher,
        control=control,
        outbox=outbox,
        stats=stats,
        check=LedgerCheck(roster, waits, ledger, media, counters) if config.observability.check_ledger else None,
        overlap=not config.execution.disable_overlap_schedule,
    )


def _mask_threads() -> int:
    """One is left to whatever launches the device's work."""
    return max(1, min(_MAX_MASK_THREADS, len(os.sched_getaffinity(0)) - 1))


def _jump_forward(
    config: HooklineConfig, tokenizer: Callable[[], Tokenizer] | None, execution: Execution, stops: StopChecker
) -> JumpForward | None:
    least = config.grammar.grammar_jump_forward
    if not least or tokenizer is None:
        return None
    if not config.cache.enable_prefix_cache:
        log.warning("grammar_jump_forward is off: it needs the prefix cache (cache.enable_prefix_cache)")
        return None
    return JumpForward(tokenizer, execution, stops, least)


def _limits(
    plugins: PluginPlan, config: HooklineConfig, model: ModelConfig, info: WorkerInfo, num_slots: int
) -> IntakeLimits:
    poolers = {spec.name: bool(spec.details.get("needs_all_tokens", False)) for spec in plugins.of_kind("poolers")}
    return IntakeLimits(
        vocab_size=info.vocab_size,
        max_context_len=info.max_context_len,
        max_total_tokens=num_slots,
        page_size=info.page_size,
        max_queued_requests=config.schedule.max_queued_requests,
        enable_priority=config.schedule.enable_priority,
        low_priority_first=config.schedule.low_priority_first,
        stream_interval=config.output.stream_interval,
        eos_token_ids=model.eos_token_ids,
        poolers=poolers,
        # A causal model's last hidden state is the one that has seen the whole text.
        default_pooler=model.pooling.pooling if model.pooling is not None else "last",
    )


def _batch_scheduler(
    plugins: PluginPlan, config: HooklineConfig, info: WorkerInfo, num_slots: int
) -> tuple[BatchScheduler, str]:
    """The chosen scheduler with its policy, and how errors name it."""
    chunk = config.schedule.chunked_prefill_size
    policy_spec = plugins.named("schedule_policies", config.schedule.schedule_policy)
    spec = plugins.one("schedulers")
    policy = _made(plugins, policy_spec, config.execution.seed)
    env = SchedulerEnv(
        policy=policy,
        config=config.schedule,
        max_running_requests=info.max_running_requests,
        max_total_tokens=num_slots,
        page_size=info.page_size,
        chunked_prefill_size=_DEFAULT_CHUNK if chunk == "auto" else chunk,
        max_prefill_tokens=config.schedule.max_prefill_tokens,
        seed=config.execution.seed,
        options=plugins.options_of(spec),
    )
    return _made(plugins, spec, env), f"scheduler '{spec.name}' of {_origin(spec)}"


def _origin(spec: ChosenSpec) -> str:
    return f"{spec.distribution} {spec.version}".rstrip()


def _made(plugins: PluginPlan, spec: ChosenSpec, argument: Any) -> Any:
    """The object of a chosen spec; every error names its distribution."""
    target = plugins.load(spec)
    where = f"{spec.kind} '{spec.name}' of {_origin(spec)}"
    try:
        return target(argument)
    except Exception as error:
        raise PluginError(f"{where} cannot be made: {type(error).__name__}: {error}") from error


def _grammar_gates(
    plan: EnginePlan,
    config: HooklineConfig,
    tokenizer: Callable[[], Tokenizer] | None,
    end_token_ids: tuple[int, ...],
    vocab_size: int,
) -> GrammarGates:
    specs = plan.plugins.of_kind("grammar_backends")
    thinking = None if tokenizer is None else ThinkingMatchers(tokenizer, vocab_size)
    if not specs:
        return GrammarGates(None, thinking=thinking, missing="a grammar backend (grammar.grammar_backend)")
    if tokenizer is None:
        return GrammarGates(None, missing="a tokenizer (skip_tokenizer_init)")
    section = config.grammar
    # The vocabulary is read for the first constrained request; but a backend that does not load stops the start.
    # Named in the configuration, they are asked in the order in which they are named.
    quick_first = any(path == "grammar.grammar_backend" for path, _, _ in plan.resolved)
    chain = BackendChain(
        backend_links(plan.plugins, specs, tokenizer, vocab_size, end_token_ids, quick_first=quick_first)
    )
    maker: GrammarMaker = LocalMaker(chain)
    if section.grammar_workers:
        setup = HostSetup(
            plugins=plan.plugins,
            tokenizer_path=plan.tokenizer_path,
            vocab_size=vocab_size,
            end_token_ids=end_token_ids,
            quick_first=quick_first,
            timeout=section.grammar_timeout,
            max_bytes=section.grammar_memory_bytes,
        )
        maker = HostedMaker(chain, setup)
    compiler = GrammarCompiler(
        maker,
        timeout=section.grammar_timeout,
        max_bytes=section.grammar_cache_bytes,
        num_threads=section.grammar_workers or 1,
    )
    return GrammarGates(compiler, chain, thinking=thinking, step_timeout=section.grammar_step_timeout)
