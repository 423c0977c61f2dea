"""Eviction policies: which unlocked leaf of the prefix cache goes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hookline.errors import ConfigError

if TYPE_CHECKING:
    from hookline.cache.prefix_cache import CacheNode


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionPolicy:
    """The leaf with the least ``key`` is evicted first."""

    name: str
    key: Callable[[CacheNode], tuple[int, ...]]
    #: Whether a use of a node can lower its key. Otherwise an old key is a lower bound of the present one.
    key_falls: bool = False


_POLICIES = {
    policy.name: policy
    for policy in (
        EvictionPolicy(name="lru", key=lambda node: (node.accessed, node.id)),
        EvictionPolicy(name="lfu", key=lambda node: (node.num_hits, node.accessed, node.id)),
        EvictionPolicy(name="fifo", key=lambda node: (node.created, node.id)),
        EvictionPolicy(name="mru", key=lambda node: (-node.accessed, node.id), key_falls=True),
        EvictionPolicy(name="priority", key=lambda node: (node.priority, node.accessed, node.id)),
    )
}


def eviction_policy(name: str) -> EvictionPolicy:
    """The policy of that name; ``ConfigError`` listing the known ones otherwise."""
    if name not in _POLICIES:
        raise ConfigError(f"unknown eviction policy '{name}' (known: {', '.join(_POLICIES)})")
    return _POLICIES[name]
