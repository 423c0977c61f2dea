"""ResponseStore: finished responses, kept in memory within bounds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hookline_api.options import ApiOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response, and the conversation that it ends."""

    #: The response object.
    response: Mapping[str, Any]
    #: All items of the conversation: those of earlier responses, of the input, of the output.
    items: Sequence[Mapping[str, Any]]


class ResponseStore:
    """Keeps the newest responses. What is over a bound goes, the longest unused first."""

    def __init__(self, options: ApiOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._options = options
        self._clock = clock
        #: Id -> (response, its bytes, when it came).
        self._kept: OrderedDict[str, tuple[StoredResponse, int, float]] = OrderedDict()
        self._num_bytes = 0

    def __len__(self) -> int:
        self._forget_old()
        return len(self._kept)

    def put(self, stored: StoredResponse) -> None:
        """Keep a response, unless it is larger than all that may be kept."""
        # Items that several responses share count for each: what is kept is never more than the bound.
        size = len(orjson.dumps([stored.response, stored.items]))
        if size > self._options.max_stored_bytes:
            return
        self._kept[stored.response["id"]] = (stored, size, self._clock())
        self._num_bytes += size
        self._forget_old()
        while len(self._kept) > self._options.max_stored_responses or self._num_bytes > self._options.max_stored_bytes:
            self.remove(next(iter(self._kept)))

    def get(self, response_id: str) -> StoredResponse | None:
        """The response of this id, if it is kept."""
        self._forget_old()
        if response_id not in self._kept:
            return None
        self._kept.move_to_end(response_id)
        return self._kept[response_id][0]

    def remove(self, response_id: str) -> bool:
        """Forget a response; whether there was one."""
        self._forget_old()
        kept = self._kept.pop(response_id, None)
        if kept is None:
            return False
        self._num_bytes -= kept[1]
        return True

    def _forget_old(self) -> None:
        oldest = self._clock() - self._options.max_stored_seconds
        for response_id in [key for key, (_, _, came) in self._kept.items() if came < oldest]:
            self._num_bytes -= self._kept.pop(response_id)[1]
