"""Control messages to the scheduler, and its answers and reports."""

from __future__ import annotations

from typing import Any

import msgspec


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True, tag="control"):
    """Ask the scheduler to do something besides generating.

    ``method`` is one of: "flush_cache", "server_state", "update_weights" (path), "release_memory" (tags),
    "resume_memory" (tags), "load_adapter" (name, path), "unload_adapter" (name), "shutdown".
    """

    id: int
    method: str
    arguments: dict[str, Any] = {}


class ControlReply(msgspec.Struct, frozen=True, kw_only=True, tag="reply"):
    """Answer to the ControlRequest of the same id."""

    id: int
    ok: bool
    message: str = ""
    data: dict[str, Any] = {}


class SchedulerStats(msgspec.Struct, frozen=True, kw_only=True, tag="stats"):
    """A report of the scheduler for metrics and health; sent at most a few times a second."""

    num_running: int
    num_waiting: int
    num_gated: int
    used_tokens: int
    total_tokens: int
    cached_tokens_total: int
    prompt_tokens_total: int
    generated_tokens_total: int
    num_retractions_total: int
    steps_total: int
    #: Pictures, clips and the like of requests that came to their turn, and of those the ones whose embedding rows or
    #: KV were there or being made already.
    media_items_total: int = 0
    media_reused_total: int = 0
    #: Items that were encoded, and the encoder's work in patches.
    media_encoded_total: int = 0
    encoder_patches_total: int = 0
    #: Bytes of embedding rows on the device, and in the host's memory.
    embedding_bytes: int = 0
    embedding_host_bytes: int = 0
    #: Checks that found a pool or tree out of balance (``observability.check_ledger``).
    ledger_violations: int = 0
    #: Monotonic seconds since the last completed step, while work exists; 0 when idle.
    seconds_since_step: float = 0.0
    #: Summed seconds by stage since the start: "schedule", "launch", "wait", "mask", "process", "send".
    stage_seconds: dict[str, float] = {}


class ProcessReady(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """A child process is ready; ``info`` is what /server_info shows of it."""

    process: str
    info: dict[str, Any] = {}


class ProcessFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A child process ends with an error; ``message`` is printed as the server's last line."""

    process: str
    error_type: str
    message: str
    traceback: str = ""
