"""A gate and a hold that do as the test says."""

from __future__ import annotations

from hookline.scheduler.waits import Gate, Hold


class Door(Gate):
    """Opens, or fails, when the test says so."""

    def __init__(self) -> None:
        self.is_open = False
        self.error: Exception | None = None
        self.was_cancelled = False
        self.num_polls = 0

    def poll(self) -> bool:
        self.num_polls += 1
        if self.error is not None:
            raise self.error
        return self.is_open

    def cancel(self) -> None:
        self.was_cancelled = True


class Grip(Hold):
    """Holds until the test lets go."""

    def __init__(self) -> None:
        self.may_go = False
        self.error: Exception | None = None

    def poll(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.may_go
