"""PrefixSharing: lets a request wait one pass for a prefix that another is just about to compute."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from hookline.interfaces.scheduling import WaitingReq

#: Tokens that a request must save to be held back. Also what two requests must begin with to be compared.
_LEAST_GAIN = 32


class PrefixSharing:
    """The requests that compute a prefix in this pass, by their first tokens."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._leaders: dict[Hashable, list[WaitingReq]] = {}

    def lead(self, req: WaitingReq) -> None:
        """The request computes its tokens now; they are cached when the pass was launched."""
        if req.num_tokens >= _LEAST_GAIN:
            self._leaders.setdefault(_key(req), []).append(req)

    def should_wait(self, req: WaitingReq, num_cached: int) -> bool:
        """Whether a leader's prefix saves the request enough."""
        if req.max_cached_tokens - num_cached < _LEAST_GAIN:
            return False
        for leader in self._leaders.get(_key(req), ()):
            shared = min(_common(leader, req), req.max_cached_tokens)
            shared -= shared % self._page_size
            if shared - num_cached >= _LEAST_GAIN:
                return True
        return False


def _key(req: WaitingReq) -> Hashable:
    return req.namespace, req.token_ids[:_LEAST_GAIN].tobytes()


def _common(one: WaitingReq, other: WaitingReq) -> int:
    length = min(one.num_tokens, other.num_tokens)
    differs = np.flatnonzero(one.token_ids[:length] != other.token_ids[:length])
    return int(differs[0]) if len(differs) else length
