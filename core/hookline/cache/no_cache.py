"""NoCache: the prefix cache that is switched off. It owns nothing, so requests free all their slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.cache.prefix_cache import CacheNode, InsertResult, MatchResult, PrefixCache

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hookline.cache.prefix_cache import TokenIds

_NOTHING = np.empty(0, dtype=np.int64)


class NoCache(PrefixCache):
    """Matches nothing and keeps nothing."""

    def __init__(self) -> None:
        self._node = CacheNode(0, None, _NOTHING, _NOTHING)

    def match(self, namespace: Hashable, token_ids: TokenIds, *, admit: bool = False) -> MatchResult:
        return MatchResult(node=self._node)

    def insert(self, namespace: Hashable, token_ids: TokenIds, slots: TokenIds, priority: int = 0) -> InsertResult:
        return InsertResult(node=self._node)

    def lock(self, node: CacheNode) -> None:
        pass

    def unlock(self, node: CacheNode) -> None:
        pass

    def evict(self, num_slots: int) -> int:
        return 0

    def reset(self) -> None:
        pass

    @property
    def num_evictable(self) -> int:
        return 0

    @property
    def num_protected(self) -> int:
        return 0

    def owned_slots(self) -> npt.NDArray[np.int64]:
        return _NOTHING

    def token_ids(self) -> npt.NDArray[np.int64]:
        return _NOTHING

    def check(self) -> None:
        pass
