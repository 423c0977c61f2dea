"""PrefixCache: what the scheduler asks of a cache of computed prefixes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    IntArray = npt.NDArray[np.int64]
    TokenIds = Sequence[int] | npt.NDArray[np.integer]


class CacheNode:
    """A place in the cache that a request can hold on to. Only its cache reads or writes the fields."""

    __slots__ = (
        "accessed",
        "children",
        "created",
        "heap_key",
        "id",
        "key",
        "lock_ref",
        "namespace",
        "num_hits",
        "parent",
        "priority",
        "slots",
    )

    def __init__(self, node_id: int, parent: CacheNode | None, key: IntArray, slots: IntArray) -> None:
        self.id = node_id
        self.parent = parent
        #: Token ids and slots of this segment; whole pages, empty for a root.
        self.key = key
        self.slots = slots
        #: First page of each child's key -> child.
        self.children: dict[int | bytes, CacheNode] = {}
        #: Set for roots only.
        self.namespace: Hashable = None
        #: Locks on this node or below it.
        self.lock_ref = 0
        self.priority = 0
        #: Admissions whose prefix went through this node.
        self.num_hits = 0
        #: Logical times.
        self.created = 0
        self.accessed = 0
        #: The key of this node's valid entry among the eviction candidates, if it has one.
        self.heap_key: tuple[int, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of this segment."""
        return len(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchResult:
    """The longest cached prefix, in whole pages."""

    #: Lock it to keep the prefix.
    node: CacheNode
    num_tokens: int = 0
    #: Slots of the prefix in pieces, one for each node on the path.
    segments: tuple[IntArray, ...] = ()
    #: Node id -> tokens, for the nodes on the path that nobody locks.
    unlocked: Mapping[int, int] = field(default_factory=dict)
    #: Node ids from the root to ``node``. A later match may split a node: the upper part gets a new id.
    path: tuple[int, ...] = ()

    @property
    def slots(self) -> IntArray:
        """Slots of the prefix, int64 [num_tokens]; joined anew on each call."""
        return np.concatenate(self.segments) if self.segments else np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertResult:
    """What became of inserted slots.

    The first ``num_existing`` tokens were cached before: the caller's slots for them are duplicates where
    they differ from the cache's. Slots of the tokens from there to ``num_tokens`` now belong to the cache.
    The caller keeps the rest.
    """

    #: Covers the first ``num_tokens`` tokens; lock it to keep them.
    node: CacheNode
    num_existing: int = 0
    num_tokens: int = 0
    #: The cache's slots of the first ``num_tokens`` tokens, in pieces.
    segments: tuple[IntArray, ...] = ()

    @property
    def slots(self) -> IntArray:
        """The cache's slots, int64 [num_tokens]; joined anew on each call."""
        return np.concatenate(self.segments) if self.segments else np.empty(0, dtype=np.int64)


class PrefixCache(ABC):
    """Keeps KV of finished and running requests for those that begin with the same tokens.

    Used from the scheduler's thread only. It owns slots from ``insert`` until ``evict`` or ``reset`` gives
    them to the allocator. Nothing depends on a clock, so equal calls give equal trees on every rank.
    Requests of different namespaces never share; a namespace is any hashable value.
    """

    @abstractmethod
    def match(self, namespace: Hashable, token_ids: TokenIds, *, admit: bool = False) -> MatchResult:
        """The longest cached prefix of ``token_ids``.

        Refreshes access times. ``admit`` counts a hit on the path: set it when the request is admitted,
        not when a policy looks around.
        """

    @abstractmethod
    def insert(self, namespace: Hashable, token_ids: TokenIds, slots: TokenIds, priority: int = 0) -> InsertResult:
        """Hand over the slots of a prefix (equal lengths; an incomplete last page is left to the caller).

        Raises the priority of the nodes on the path to at least ``priority``.
        """

    @abstractmethod
    def lock(self, node: CacheNode) -> None:
        """Keep the prefix that ends at ``node`` from eviction. Locks count."""

    @abstractmethod
    def unlock(self, node: CacheNode) -> None:
        """Undo one ``lock`` of the same node."""

    @abstractmethod
    def evict(self, num_slots: int) -> int:
        """Free at least ``num_slots`` slots to the allocator if so many are unlocked; returns how many were."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything and free all slots. Nothing may be locked (``AssertionError``)."""

    @property
    @abstractmethod
    def num_evictable(self) -> int:
        """Slots that ``evict`` could free."""

    @property
    @abstractmethod
    def num_protected(self) -> int:
        """Slots that are locked."""

    @abstractmethod
    def owned_slots(self) -> IntArray:
        """All slots that the cache owns, in no particular order; for ledger checks."""

    @abstractmethod
    def token_ids(self) -> IntArray:
        """All token ids that the cache knows, in no particular order."""

    @abstractmethod
    def check(self) -> None:
        """Verify the invariants; ``AssertionError`` names the node at fault. Slow."""
