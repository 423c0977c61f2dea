"""Gate and Hold: what a request waits for before it is scheduled, and who needs its slots after its end."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hookline.errors import RequestError

if TYPE_CHECKING:
    from hookline.scheduler.req import Req

log = logging.getLogger(__name__)


class Gate(ABC):
    """Something that a request waits for: a grammar, an adapter, KV from elsewhere.

    Used from the scheduler's thread only. Nothing here may block.
    """

    @abstractmethod
    def poll(self) -> bool:
        """Whether the gate is open; called once a step until it is.

        Raises ``RequestError`` when it will never open: that ends the request with this error.
        """

    def cancel(self) -> None:  # noqa: B027 - optional
        """The request ended before the gate opened."""


class Hold(ABC):
    """Something that still reads the slots of a request that has ended.

    Used from the scheduler's thread only. Nothing here may block.
    """

    @abstractmethod
    def poll(self) -> bool:
        """Whether the slots may go; called once a step until they may. An exception lets them go too."""


#: Gives the gate that a new request must wait for, if any. ``RequestError`` refuses the request.
GateSource = Callable[["Req"], Gate | None]
#: Gives the hold on a request that just ended and has slots, if any.
HoldSource = Callable[["Req"], Hold | None]


class WaitRoom:
    """Requests behind gates, and ended requests under holds."""

    def __init__(self, gate_sources: Sequence[GateSource] = (), hold_sources: Sequence[HoldSource] = ()) -> None:
        self._gate_sources = gate_sources
        self._hold_sources = hold_sources
        self._gated: dict[str, tuple[Req, list[Gate]]] = {}
        self._held: list[tuple[Req, list[Hold]]] = []

    @property
    def num_gated(self) -> int:
        return len(self._gated)

    @property
    def held(self) -> list[Req]:
        """Ended requests whose slots somebody still reads."""
        return [req for req, _ in self._held]

    def admit(self, req: Req) -> None:
        """Put a new request behind its gates; ``poll`` gives it back, at once if there are none."""
        gates = [gate for source in self._gate_sources if (gate := source(req)) is not None]
        self._gated[req.rid] = (req, gates)

    def cancel(self, req: Req) -> None:
        """The request ends while it waits here."""
        _, gates = self._gated.pop(req.rid)
        for gate in gates:
            gate.cancel()

    def poll(self) -> tuple[list[Req], list[tuple[Req, RequestError]]]:
        """Requests whose gates have opened, and requests that failed with their errors.

        Each waits for its own gates only: one that compiles slowly holds nobody up.
        """
        opened, failed = [], []
        for req, gates in list(self._gated.values()):
            try:
                while gates and gates[-1].poll():
                    gates.pop()
            except RequestError as error:
                failed.append((req, error))
                continue
            except Exception as error:
                log.exception("a gate of request %s failed", req.rid)
                message = f"the request could not be prepared: {type(error).__name__}: {error}"
                failed.append((req, RequestError(message, code="internal_error", status_code=500)))
                continue
            if not gates:
                del self._gated[req.rid]
                opened.append(req)
        return opened, failed

    def hold(self, req: Req) -> bool:
        """Whether somebody keeps the slots of the ended request; ``poll_holds`` gives it back in the end."""
        holds = [hold for source in self._hold_sources if (hold := source(req)) is not None]
        if holds:
            self._held.append((req, holds))
        return bool(holds)

    def poll_holds(self) -> list[Req]:
        """Ended requests whose slots may go now."""
        if not self._held:
            return []
        kept, released = [], []
        for req, holds in self._held:
            left = [hold for hold in holds if not _may_go(req, hold)]
            if left:
                kept.append((req, left))
            else:
                released.append(req)
        self._held = kept
        return released


def _may_go(req: Req, hold: Hold) -> bool:
    try:
        return hold.poll()
    except Exception:
        log.exception("a hold on the ended request %s failed; its slots are released", req.rid)
        return True
