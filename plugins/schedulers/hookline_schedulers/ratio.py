"""NewTokenRatio: what part of the output that running requests may still have is kept free for them."""

from __future__ import annotations

from collections.abc import Iterable

from hookline.interfaces.scheduling import RunningReq

_INITIAL = 0.7
#: Of the initial ratio.
_LEAST = 0.14
_DECAY_STEPS = 600
#: Tokens that each surviving request is expected to add after a retraction.
_LOOKAHEAD = 20


class NewTokenRatio:
    """Falls while decoding goes well, and rises to what was really needed when a request had to be retracted."""

    def __init__(self, conservativeness: float) -> None:
        self._initial = min(_INITIAL * conservativeness, 1.0)
        self._least = _LEAST * self._initial
        self.value = self._initial

    def decay(self) -> None:
        """A decode step went without retraction."""
        self.value = max(self.value - (self._initial - self._least) / _DECAY_STEPS, self._least)

    def raise_for(self, survivors: Iterable[RunningReq]) -> None:
        """Requests were retracted; these go on."""
        num = num_output = num_allowed = 0
        for req in survivors:
            num += 1
            num_output += req.num_output_tokens
            num_allowed += req.max_new_tokens
        self.value = min(1.0, (num_output + _LOOKAHEAD * num) / (num_allowed + 1))

    def reset(self) -> None:
        """The engine is idle."""
        self.value = self._initial
