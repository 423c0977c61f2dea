"""NoCache: the same interface, owning nothing."""

from __future__ import annotations

import numpy as np

from hookline.cache.allocator import PagedAllocator
from hookline.cache.no_cache import NoCache
from hookline.cache.prefix_cache import PrefixCache
from hookline.cache.radix_cache import RadixCache
from hookline.messages.requests import CacheNamespace

HOME = CacheNamespace()


def serve(cache: PrefixCache, allocator: PagedAllocator, tokens: list[int]) -> int:
    """The life of one request, as the scheduler leads it with any cache. Returns its cached tokens."""
    match = cache.match(HOME, tokens[:-1], admit=True)
    cache.lock(match.node)
    prefix = match.slots
    new = allocator.alloc_extend([len(prefix)], [len(tokens)], [prefix[-1] if len(prefix) else 0])
    assert new is not None
    slots = np.concatenate([prefix, new])
    result = cache.insert(HOME, tokens, slots)
    allocator.free(slots[match.num_tokens : result.num_existing])
    allocator.free(slots[max(result.num_tokens, match.num_tokens) :])
    cache.unlock(match.node)
    cache.check()
    return match.num_tokens


def test_a_request_frees_all_its_slots() -> None:
    allocator = PagedAllocator(32, 4, check=True)
    cache = NoCache()
    assert [serve(cache, allocator, [1, 2, 3, 4, 5, 6]) for _ in range(3)] == [0, 0, 0]
    assert allocator.num_free == 32
    assert cache.num_evictable == cache.num_protected == cache.evict(8) == 0
    assert len(cache.owned_slots()) == 0
    cache.reset()


def test_the_same_steps_work_with_a_radix_cache() -> None:
    allocator = PagedAllocator(32, 4, check=True)
    cache = RadixCache(allocator)
    assert [serve(cache, allocator, [1, 2, 3, 4, 5, 6]) for _ in range(3)] == [0, 4, 4]
    assert allocator.num_free == 28
    assert cache.num_evictable == 4
