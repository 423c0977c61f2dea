"""Inbox: takes in messages and hands each to the part that answers it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hookline.errors import OverloadedError, RequestError
from hookline.messages.control import ControlRequest
from hookline.messages.requests import AbortReq, TokenizedRequest

if TYPE_CHECKING:
    from hookline.messages.transport import Receiver
    from hookline.scheduler.control import Control
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.intake import Intake
    from hookline.scheduler.outbox import Outbox
    from hookline.scheduler.roster import Roster

log = logging.getLogger(__name__)


class Inbox:
    """The scheduler's door. A message that cannot be served ends with its sender, never with the loop."""

    def __init__(
        self,
        receiver: Receiver[Any],
        roster: Roster,
        intake: Intake,
        finisher: Finisher,
        control: Control,
        outbox: Outbox,
    ) -> None:
        self._receiver = receiver
        self._roster = roster
        self._intake = intake
        self._finisher = finisher
        self._control = control
        self._outbox = outbox

    def receive(self, timeout: float | None) -> int:
        """Handle what is there, or what comes within ``timeout`` seconds; returns how many messages."""
        messages = self._receiver.receive(timeout)
        for message in messages:
            if isinstance(message, TokenizedRequest):
                self._accept(message)
            elif isinstance(message, AbortReq):
                self._finisher.abort(message)
            elif isinstance(message, ControlRequest):
                self._control.handle(message)
            else:
                log.error("a message of type %s does not belong here and is dropped", type(message).__name__)
        return len(messages)

    def _check_memory(self) -> None:
        """A request that came while memory is given back would wait for an operator, perhaps for ever."""
        if self._control.released:
            what = " and ".join(sorted(self._control.released))
            raise OverloadedError(
                f"the engine gave back the memory of its {what} and takes no requests; resume_memory first",
                code="memory_released",
            )

    def _accept(self, request: TokenizedRequest) -> None:
        if request.rid in self._roster:
            # An answer would reach the living request of the same id and end it.
            log.error("request id %s is in use; the second request of that id is dropped", request.rid)
            return
        try:
            self._check_memory()
            self._intake.accept(request)
        except RequestError as error:
            self._outbox.refuse(request, error)
        except Exception as error:
            log.exception("request %s could not be taken in", request.rid)
            message = f"the request could not be taken in: {type(error).__name__}: {error}"
            self._outbox.refuse(request, RequestError(message, code="internal_error", status_code=500))
