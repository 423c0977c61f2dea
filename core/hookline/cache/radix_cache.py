"""RadixCache: computed prefixes as a tree of page-aligned segments."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.cache.eviction import eviction_policy
from hookline.cache.prefix_cache import CacheNode, InsertResult, MatchResult, PrefixCache

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from hookline.cache.allocator import PagedAllocator
    from hookline.cache.prefix_cache import TokenIds

    IntArray = npt.NDArray[np.int64]

_NOTHING = np.empty(0, dtype=np.int64)


class RadixCache(PrefixCache):
    """A tree for each namespace. Siblings differ within their first page; roots hold no tokens.

    Eviction takes leaves in the order of the policy. Candidates stand in a heap with the key they had when
    they were pushed; keys are brought up to date when an entry comes up, so that using a node costs nothing.
    """

    def __init__(self, allocator: PagedAllocator, policy: str = "lru") -> None:
        self.allocator = allocator
        self.page_size = allocator.page_size
        self.policy = eviction_policy(policy)
        self._num_ids = 0
        self._clear()

    def _clear(self) -> None:
        self._roots: dict[Hashable, CacheNode] = {}
        self._heap: list[tuple[tuple[int, ...], CacheNode]] = []
        self._num_candidates = 0
        self._clock = 0
        self._num_evictable = 0
        self._num_protected = 0
        # Stands for the root of a namespace that holds nothing, so that asking does not create one.
        self._nowhere = self._new_node(None, _NOTHING, _NOTHING)

    @property
    def num_evictable(self) -> int:
        return self._num_evictable

    @property
    def num_protected(self) -> int:
        return self._num_protected

    def match(self, namespace: Hashable, token_ids: TokenIds, *, admit: bool = False) -> MatchResult:
        root = self._roots.get(namespace)
        if root is None:
            return MatchResult(node=self._nowhere, path=(self._nowhere.id,))
        path = self._walk(root, self._whole_pages(token_ids))
        if admit:
            for node in path:
                node.num_hits += 1
        self._touch(path)
        return MatchResult(
            node=path[-1],
            num_tokens=sum(len(node.key) for node in path),
            segments=tuple(node.slots for node in path[1:]),
            unlocked={node.id: len(node.key) for node in path[1:] if not node.lock_ref},
            path=tuple(node.id for node in path),
        )

    def insert(self, namespace: Hashable, token_ids: TokenIds, slots: TokenIds, priority: int = 0) -> InsertResult:
        if len(token_ids) != len(slots):
            raise AssertionError(f"{len(token_ids)} tokens were inserted with {len(slots)} slots")
        key = self._whole_pages(token_ids)
        if not len(key):
            return InsertResult(node=self._roots.get(namespace, self._nowhere))
        root = self._roots.get(namespace)
        if root is None:
            root = self._roots[namespace] = self._new_node(None, _NOTHING, _NOTHING)
            root.namespace = namespace
        path = self._walk(root, key)
        num_existing = sum(len(node.key) for node in path)
        if num_existing < len(key):
            # Copies: a view would keep the caller's whole arrays alive.
            tail = np.array(slots[num_existing : len(key)], dtype=np.int64)
            leaf = self._new_node(path[-1], key[num_existing:].copy(), tail)
            leaf.created = self._clock + 1
            leaf.priority = priority
            path[-1].children[self._edge(leaf.key)] = leaf
            self._num_evictable += len(tail)
            path.append(leaf)
        for node in path:
            node.priority = max(node.priority, priority)
        self._touch(path)
        self._offer(path[-1])
        return InsertResult(
            node=path[-1],
            num_existing=num_existing,
            num_tokens=len(key),
            segments=tuple(node.slots for node in path[1:]),
        )

    def lock(self, node: CacheNode) -> None:
        step: CacheNode | None = node
        while step is not None:
            if not step.lock_ref:
                self._num_evictable -= len(step.key)
                self._num_protected += len(step.key)
            step.lock_ref += 1
            step = step.parent

    def unlock(self, node: CacheNode) -> None:
        if not node.lock_ref:
            raise AssertionError(f"cache node {node.id} was unlocked without a lock")
        step: CacheNode | None = node
        while step is not None:
            step.lock_ref -= 1
            if not step.lock_ref:
                self._num_evictable += len(step.key)
                self._num_protected -= len(step.key)
            parent = step.parent
            if parent is None:
                self._drop_root_if_empty(step)
            step = parent
        self._offer(node)

    def evict(self, num_slots: int) -> int:
        freed: list[IntArray] = []
        num_freed = 0
        while num_freed < num_slots:
            leaf = self._pop_victim()
            if leaf is None:
                break
            freed.append(leaf.slots)
            num_freed += len(leaf.slots)
            self._remove(leaf)
        if freed:
            self.allocator.free(np.concatenate(freed))
        return num_freed

    def reset(self) -> None:
        if self._num_protected:
            raise AssertionError(f"{self._num_protected} cached tokens are locked; the cache cannot be reset")
        self.allocator.free(self.owned_slots())
        self._clear()

    def owned_slots(self) -> IntArray:
        return np.concatenate([_NOTHING, *(node.slots for node in self._nodes())])

    def token_ids(self) -> IntArray:
        return np.concatenate([_NOTHING, *(node.key for node in self._nodes())])

    def check(self) -> None:
        evictable = protected = candidates = 0
        for node in self._nodes():
            self._check_node(node)
            if node.lock_ref:
                protected += len(node.key)
            else:
                evictable += len(node.key)
            candidates += node.heap_key is not None
        if (evictable, protected) != (self._num_evictable, self._num_protected):
            raise AssertionError(
                f"the tree holds {evictable} evictable and {protected} protected tokens, but the counters say "
                f"{self._num_evictable} and {self._num_protected}"
            )
        if candidates != self._num_candidates:
            raise AssertionError(f"{candidates} nodes are eviction candidates, but {self._num_candidates} are counted")
        slots = self.owned_slots()
        if len(np.unique(slots)) != len(slots):
            raise AssertionError("a slot stands at two places of the prefix cache")

    def _check_node(self, node: CacheNode) -> None:
        if node.parent is None:
            if not node.children and not node.lock_ref:
                raise AssertionError(f"root {node.id} of namespace {node.namespace!r} is empty but was kept")
            return
        where = f"cache node {node.id}"
        if not len(node.key) or len(node.key) % self.page_size or len(node.key) != len(node.slots):
            raise AssertionError(f"{where} has {len(node.key)} tokens, {len(node.slots)} slots (page {self.page_size})")
        pages = node.slots.reshape(-1, self.page_size)
        if (pages != pages[:, :1] + np.arange(self.page_size)).any() or (pages[:, 0] % self.page_size).any():
            raise AssertionError(f"{where} holds slots that are not whole pages")
        if node.parent.children.get(self._edge(node.key)) is not node:
            raise AssertionError(f"{where} is not the child of its parent {node.parent.id}")
        if node.lock_ref < sum(child.lock_ref for child in node.children.values()):
            raise AssertionError(f"{where} has fewer locks than its children")
        if not node.lock_ref and not node.children and node.heap_key is None:
            raise AssertionError(f"{where} could be evicted but is no candidate")

    def _nodes(self) -> Iterator[CacheNode]:
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def _walk(self, root: CacheNode, key: IntArray) -> list[CacheNode]:
        """Nodes from the root that cover the longest cached prefix; splits the last one where it ends."""
        path = [root]
        position = 0
        while position < len(key):
            child = path[-1].children.get(self._edge(key, position))
            if child is None:
                break
            common = self._common_pages(child.key, key[position : position + len(child.key)])
            if common < len(child.key):
                path.append(self._split(child, common))
                break
            path.append(child)
            position += common
        return path

    def _split(self, node: CacheNode, length: int) -> CacheNode:
        """Cut a node in two and return the new upper part; locks on the lower part cover it too."""
        parent = node.parent
        assert parent is not None
        # Copies: a view would keep both parts' arrays alive until both are evicted.
        upper = self._new_node(parent, node.key[:length].copy(), node.slots[:length].copy())
        upper.lock_ref, upper.priority, upper.num_hits = node.lock_ref, node.priority, node.num_hits
        upper.created, upper.accessed = node.created, node.accessed
        parent.children[self._edge(upper.key)] = upper
        node.key, node.slots = node.key[length:].copy(), node.slots[length:].copy()
        node.parent = upper
        upper.children[self._edge(node.key)] = node
        return upper

    def _remove(self, leaf: CacheNode) -> None:
        parent = leaf.parent
        assert parent is not None
        del parent.children[self._edge(leaf.key)]
        # Cut loose, so that a stale match of the leaf cannot reach the tree.
        leaf.parent = None
        self._num_evictable -= len(leaf.key)
        if parent.parent is None:
            self._drop_root_if_empty(parent)
        else:
            self._offer(parent)

    def _drop_root_if_empty(self, root: CacheNode) -> None:
        if not root.children and not root.lock_ref and self._roots.get(root.namespace) is root:
            del self._roots[root.namespace]

    def _touch(self, path: list[CacheNode]) -> None:
        self._clock += 1
        for node in path:
            node.accessed = self._clock
        if self.policy.key_falls:
            self._offer(path[-1])

    def _offer(self, node: CacheNode) -> None:
        """Make the node a candidate for eviction if it is an unlocked leaf and not one with a sound key yet."""
        if node.children or node.lock_ref or node.parent is None:
            return
        if node.heap_key is not None:
            if not self.policy.key_falls or node.heap_key == self.policy.key(node):
                return
            self._withdraw(node)
        if len(self._heap) > 64 + 2 * self._num_candidates:
            self._heap = [entry for entry in self._heap if entry[1].heap_key is entry[0]]
            heapify(self._heap)
        node.heap_key = self.policy.key(node)
        self._num_candidates += 1
        heappush(self._heap, (node.heap_key, node))

    def _withdraw(self, node: CacheNode) -> None:
        if node.heap_key is not None:
            node.heap_key = None
            self._num_candidates -= 1

    def _pop_victim(self) -> CacheNode | None:
        """Take the unlocked leaf with the least key out of the candidates."""
        while self._heap:
            key, node = heappop(self._heap)
            if node.heap_key is not key:
                continue
            self._withdraw(node)
            if node.children or node.lock_ref:
                continue
            if self.policy.key(node) == key:
                return node
            self._offer(node)
        return None

    def _new_node(self, parent: CacheNode | None, key: IntArray, slots: IntArray) -> CacheNode:
        self._num_ids += 1
        return CacheNode(self._num_ids, parent, key, slots)

    def _whole_pages(self, token_ids: TokenIds) -> IntArray:
        key = np.asarray(token_ids, dtype=np.int64)
        return key[: len(key) - len(key) % self.page_size]

    def _edge(self, key: IntArray, position: int = 0) -> int | bytes:
        """The first page at ``position``, as a dictionary key."""
        if self.page_size == 1:
            return int(key[position])
        return key[position : position + self.page_size].tobytes()

    def _common_pages(self, key: IntArray, other: IntArray) -> int:
        """Length of the common prefix, in whole pages."""
        length = min(len(key), len(other))
        differs = key[:length] != other[:length]
        first = int(differs.argmax()) if length else 0
        if length and differs[first]:
            length = first
        return length - length % self.page_size
