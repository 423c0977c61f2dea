"""Control: answers what is asked of the scheduler besides generating."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookline.errors import HooklineError, RequestError
from hookline.messages.control import ControlReply, ControlRequest

if TYPE_CHECKING:
    from hookline.interfaces.worker import Worker
    from hookline.scheduler.adapters import AdapterTable
    from hookline.scheduler.execution import Execution
    from hookline.scheduler.grammar import GrammarCompiler
    from hookline.scheduler.intake import Intake
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.media import MediaHost
    from hookline.scheduler.outbox import Outbox
    from hookline.scheduler.pipeline import Pipeline
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.stats import StatsReporter
    from hookline.scheduler.waits import WaitRoom

log = logging.getLogger(__name__)

_MEMORY_TAGS = ("kv", "weights")


class Control:
    """The handlers of ``ControlRequest``. Whatever goes wrong is told in the reply; the loop goes on."""

    def __init__(
        self,
        worker: Worker,
        roster: Roster,
        waits: WaitRoom,
        ledger: KVLedger,
        intake: Intake,
        execution: Execution,
        adapters: AdapterTable,
        media: MediaHost,
        compiler: GrammarCompiler | None,
        pipeline: Pipeline,
        stats: StatsReporter,
        outbox: Outbox,
    ) -> None:
        self._worker = worker
        self._roster = roster
        self._waits = waits
        self._ledger = ledger
        self._intake = intake
        self._execution = execution
        self._adapters = adapters
        self._media = media
        self._compiler = compiler
        self._pipeline = pipeline
        self._stats = stats
        self._outbox = outbox
        #: Memory that was given back; nothing runs until all of it is there again.
        self.released: set[str] = set()
        self.is_shut_down = False
        self._handlers: dict[str, Callable[..., dict[str, Any] | None]] = {
            "flush_cache": self._flush_cache,
            "server_state": self._server_state,
            "update_weights": self._update_weights,
            "release_memory": self._release_memory,
            "resume_memory": self._resume_memory,
            "load_adapter": self._load_adapter,
            "unload_adapter": self._unload_adapter,
            "shutdown": self._shutdown,
        }

    def handle(self, request: ControlRequest) -> None:
        """Answer a request."""
        self._outbox.send(self._reply(request))

    def _reply(self, request: ControlRequest) -> ControlReply:
        handler = self._handlers.get(request.method)
        if handler is None:
            known = ", ".join(self._handlers)
            return ControlReply(id=request.id, ok=False, message=f"unknown method '{request.method}' (known: {known})")
        try:
            data = handler(**request.arguments)
        except HooklineError as error:
            return ControlReply(id=request.id, ok=False, message=str(error))
        except Exception as error:
            log.exception("control method %s failed", request.method)
            message = f"{request.method} failed: {type(error).__name__}: {error}"
            return ControlReply(id=request.id, ok=False, message=message)
        return ControlReply(id=request.id, ok=True, data=data or {})

    def _need_idle(self, what: str) -> None:
        """Nothing may run or be held; requests may wait."""
        self._pipeline.settle()
        num_running = self._roster.num_running + len(self._waits.held)
        if num_running:
            raise RequestError(f"{what} needs an idle engine, but {num_running} requests run; abort or await them")

    def _flush_cache(self) -> None:
        self._need_idle("flush_cache")
        self._ledger.cache.reset()
        self._media.reset()
        if self._compiler is not None:
            self._compiler.clear()

    def _server_state(self) -> dict[str, Any]:
        info = self._worker.info
        return {
            **self._stats.state(),
            "weight_version": self._intake.weight_version,
            "adapters": self._adapters.names,
            "released_memory": sorted(self.released),
            "memory_ledger": dict(info.memory_ledger),
            "device": info.device,
        }

    def _update_weights(self, path: str) -> dict[str, Any]:
        """New weights for everybody: running requests keep their output and compute their KV anew."""
        self._pipeline.settle()
        if self._waits.held:
            raise RequestError("update_weights must wait until the slots of ended requests are no longer read")
        if "weights" in self.released:
            raise RequestError("the weights' memory is released; resume_memory first")
        self._worker.update_weights(Path(path))
        for req in self._roster.holders:
            self._execution.retract(req, keep=False)
        self._roster.sweep()
        self._ledger.cache.reset()
        self._media.reset()
        self._intake.renew_namespaces()
        return {"weight_version": self._intake.weight_version}

    def _release_memory(self, tags: list[str]) -> dict[str, Any]:
        tags = _memory_tags(tags)
        self._need_idle("release_memory")
        new = [tag for tag in tags if tag not in self.released]
        if "kv" in new:
            self._ledger.cache.reset()
        if new:
            self._worker.release_memory(new)
            self.released.update(new)
        return {"released_memory": sorted(self.released)}

    def _resume_memory(self, tags: list[str]) -> dict[str, Any]:
        old = [tag for tag in _memory_tags(tags) if tag in self.released]
        if old:
            self._worker.resume_memory(old)
            self.released.difference_update(old)
        return {"released_memory": sorted(self.released)}

    def _load_adapter(self, name: str, path: str) -> dict[str, Any]:
        adapter = self._adapters.load(name, Path(path))
        return {"slot": adapter.slot, "id": adapter.id}

    def _unload_adapter(self, name: str) -> dict[str, Any]:
        return {"num_users": self._adapters.unload(name)}

    def _shutdown(self) -> None:
        self._pipeline.settle()
        self.is_shut_down = True


def _memory_tags(tags: list[str]) -> list[str]:
    unknown = [tag for tag in tags if tag not in _MEMORY_TAGS]
    if unknown or not tags:
        raise RequestError(f"tags must be among {', '.join(_MEMORY_TAGS)}, not {tags}", param="tags")
    return tags
