"""All hooks. Each is called once, in the launcher, and offers specs; nothing here runs during a request.

Under "May block" stands what the implementation may wait for while others wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from hookline.interfaces.api import ApiFamilySpec
    from hookline.interfaces.attention import AttentionBackendSpec
    from hookline.interfaces.checkpoints import CheckpointSourceSpec
    from hookline.interfaces.grammar import GrammarBackendSpec
    from hookline.interfaces.kernels import OpSetSpec
    from hookline.interfaces.logits import LogitsProcessorSpec
    from hookline.interfaces.lora import LoRABackendSpec
    from hookline.interfaces.model import ModelSpec
    from hookline.interfaces.multimodal import MediaLoaderSpec
    from hookline.interfaces.parsers import FunctionCallParserSpec, ReasoningParserSpec
    from hookline.interfaces.pooling import PoolerSpec
    from hookline.interfaces.scheduling import SchedulePolicySpec, SchedulerSpec

PROJECT_NAME = "hookline"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


# --- models and checkpoints ---


@hookspec
def hookline_models() -> list[ModelSpec]:  # type: ignore[empty-body]
    """Offer models.

    The model is chosen by the ``architectures`` of the checkpoint's config.json. Two offers of one
    architecture are an error unless the config says which distribution wins.

    Stability: stable. Runs in: the launcher. The chosen target is imported in every worker.
    May block: building layers and loading weights; ``forward`` and ``compute_logits`` launch work
    and never wait for the device.
    """


@hookspec
def hookline_checkpoint_sources() -> list[CheckpointSourceSpec]:  # type: ignore[empty-body]
    """Offer places where checkpoints come from.

    Stability: stable. Runs in: the launcher. The chosen target is imported there too.
    May block: ``locate``, for as long as a download takes: no process has started yet.
    """


@hookspec
def hookline_poolers() -> list[PoolerSpec]:  # type: ignore[empty-body]
    """Offer poolers for embedding requests.

    Stability: stable. Runs in: the launcher. Targets are imported in the worker.
    May block: nothing; a pooler runs between the passes of all requests and never waits for the device.
    """


# --- execution ---


@hookspec
def hookline_attention_backends() -> list[AttentionBackendSpec]:  # type: ignore[empty-body]
    """Offer attention backends.

    Stability: provisional. Runs in: the launcher. The chosen target is imported in every worker.
    May block: construction, and the first ``forward`` of a kind, which may compile; later ``plan``, ``plan_capture``
    and ``replan`` read host values, ``prepare`` and ``forward`` only launch work on the device.
    """


@hookspec
def hookline_ops() -> list[OpSetSpec]:  # type: ignore[empty-body]
    """Offer op sets: faster versions of the ops that ``hookline.layers.ops`` defines.

    Stability: provisional. Runs in: the launcher. Chosen targets are imported in every worker.
    May block: the target and the first call of an op, which may compile; other calls only launch work.
    """


@hookspec
def hookline_lora_backends() -> list[LoRABackendSpec]:  # type: ignore[empty-body]
    """Offer LoRA backends.

    Stability: provisional. Runs in: the launcher. The chosen target is imported in every worker.
    May block: ``load``, which reads files while no pass runs; ``plan`` and ``add_delta`` never wait for the
    device.
    """


@hookspec
def hookline_logits_processors() -> list[LogitsProcessorSpec]:  # type: ignore[empty-body]
    """Offer logits processors that requests may name.

    Stability: provisional. Runs in: the launcher. Targets are imported in the frontend and in every worker.
    May block: nothing; ``validate`` runs on the server's event loop, ``apply`` in the middle of a pass and never
    waits for the device.
    """


@hookspec
def hookline_media_loaders() -> list[MediaLoaderSpec]:  # type: ignore[empty-body]
    """Offer loaders of media (pictures, videos) by the schemes of references.

    Stability: provisional. Runs in: the launcher. Targets are imported in the frontend.
    May block: nothing; ``fetch`` runs on the server's event loop and awaits what takes time.
    """


# --- scheduling ---


@hookspec
def hookline_schedulers() -> list[SchedulerSpec]:  # type: ignore[empty-body]
    """Offer batch schedulers.

    Stability: provisional. Runs in: the launcher. The chosen target is imported in the scheduler process.
    May block: nothing; ``plan`` runs once a pass while the device may be idle: no I/O, no clock.
    """


@hookspec
def hookline_schedule_policies() -> list[SchedulePolicySpec]:  # type: ignore[empty-body]
    """Offer orders of the waiting queue.

    Stability: stable. Runs in: the launcher. The chosen target is imported in the scheduler process.
    May block: nothing; ``order`` runs in the scheduler's loop: no I/O, no clock.
    """


# --- output ---


@hookspec
def hookline_grammar_backends() -> list[GrammarBackendSpec]:  # type: ignore[empty-body]
    """Offer grammar backends.

    Stability: provisional. Runs in: the launcher. The chosen target is imported in the scheduler process.
    May block: ``compile``, for seconds: it has a thread of its own and ``grammar.grammar_timeout``. Matchers run
    in the scheduler's loop and may not.
    """


@hookspec
def hookline_reasoning_parsers() -> list[ReasoningParserSpec]:  # type: ignore[empty-body]
    """Offer parsers that split reasoning from content.

    Stability: provisional. Runs in: the launcher. The chosen target is imported in the frontend.
    May block: nothing; a parser runs on the server's event loop, once for each piece of text.
    """


@hookspec
def hookline_function_call_parsers() -> list[FunctionCallParserSpec]:  # type: ignore[empty-body]
    """Offer parsers of tool calls.

    Stability: provisional. Runs in: the launcher. The chosen target is imported in the frontend.
    May block: nothing; a parser runs on the server's event loop, once for each piece of text.
    """


# --- HTTP ---


@hookspec
def hookline_api_families() -> list[ApiFamilySpec]:  # type: ignore[empty-body]
    """Offer HTTP routes.

    Stability: provisional. Runs in: the launcher. Chosen targets are imported there too, by ``serve`` only.
    May block: nothing; handlers run on the server's event loop and await what takes time.
    """
