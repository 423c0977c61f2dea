"""ControlCalls: questions to the scheduler that wait for its answer, on the event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from hookline.errors import EngineDeadError, RequestError
from hookline.messages.control import ControlReply, ControlRequest
from hookline.messages.transport import Sender
from hookline.messages.wire import SchedulerInput

_SECONDS = 60.0
#: Methods that read or move weights.
_SLOW = frozenset({"update_weights", "release_memory", "resume_memory", "load_adapter"})
_SLOW_SECONDS = 1800.0


class ControlCalls:
    """Calls in flight; each gets its own answer."""

    def __init__(self, sender: Sender[SchedulerInput]) -> None:
        self._sender = sender
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[ControlReply]] = {}

    async def call(self, method: str, arguments: Mapping[str, Any], timeout: float | None) -> ControlReply:
        """Send a ``ControlRequest`` and give the answer of a scheduler that did it.

        Raises ``RequestError`` when it refuses or does not answer within ``timeout`` seconds (``None``: the
        method's own limit), ``EngineDeadError`` when it dies.
        """
        seconds = timeout or (_SLOW_SECONDS if method in _SLOW else _SECONDS)
        ident = next(self._ids)
        answer: asyncio.Future[ControlReply] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = answer
        try:
            self._sender.send(ControlRequest(id=ident, method=method, arguments=dict(arguments)))
            async with asyncio.timeout(seconds):
                reply = await answer
        except TimeoutError as exc:
            raise RequestError(
                f"the engine did not answer '{method}' within {seconds:g} s", status_code=504, code="timeout"
            ) from exc
        finally:
            self._waiting.pop(ident, None)
        if not reply.ok:
            raise RequestError(reply.message or f"the engine refused '{method}'", code="control_failed")
        return reply

    def answered(self, reply: ControlReply) -> None:
        """The scheduler's answer came; nobody may wait for it any more."""
        waiting = self._waiting.pop(reply.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def fail_all(self, cause: str) -> None:
        """The engine is dead: every call raises ``EngineDeadError(cause)``."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(EngineDeadError(cause))
