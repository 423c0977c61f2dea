"""ForwardMode: what kind of pass a batch is."""

from __future__ import annotations

from enum import Enum


class ForwardMode(Enum):
    """What kind of pass a batch is."""

    #: Every request computes one or more new prompt tokens after its cached prefix.
    EXTEND = "extend"
    #: Every request computes the one token that was sampled last.
    DECODE = "decode"
    #: Requests that extend, followed by requests that decode as extends of length one.
    MIXED = "mixed"
    #: Nothing to compute (a rank that keeps step with others).
    IDLE = "idle"

    @property
    def is_extend(self) -> bool:
        """EXTEND or MIXED: lengths differ by request."""
        return self in (ForwardMode.EXTEND, ForwardMode.MIXED)

    @property
    def is_decode(self) -> bool:
        """One token for each request."""
        return self is ForwardMode.DECODE
