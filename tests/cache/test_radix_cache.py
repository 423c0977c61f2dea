"""RadixCache against a model: what was inserted, who locks it, and who owns each slot."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.cache.allocator import PagedAllocator
from hookline.cache.prefix_cache import CacheNode
from hookline.cache.radix_cache import RadixCache
from hookline.errors import ConfigError
from hookline.messages.requests import CacheNamespace

POLICIES = ["lru", "lfu", "fifo", "mru", "priority"]
HOME = CacheNamespace()


def make(num_slots: int = 64, page_size: int = 1, policy: str = "lru") -> tuple[PagedAllocator, RadixCache]:
    allocator = PagedAllocator(num_slots, page_size, check=True)
    return allocator, RadixCache(allocator, policy)


def allocate(allocator: PagedAllocator, length: int) -> np.ndarray:
    slots = allocator.alloc_extend([0], [length], [0])
    assert slots is not None
    return slots


def put(
    allocator: PagedAllocator,
    cache: RadixCache,
    tokens: list[int],
    namespace: CacheNamespace = HOME,
    priority: int = 0,
) -> CacheNode:
    """What the scheduler does when a request that found nothing ends: insert, then free what is not kept."""
    slots = allocate(allocator, len(tokens))
    result = cache.insert(namespace, tokens, slots, priority)
    allocator.free(np.concatenate([slots[: result.num_existing], slots[result.num_tokens :]]))
    return result.node


def held(cache: RadixCache, tokens: list[int], namespace: CacheNamespace = HOME) -> int:
    return cache.match(namespace, tokens).num_tokens


# --- the model ---


@dataclass
class Running:
    """A request that holds slots: the first ``protected`` belong to the cache."""

    namespace: CacheNamespace
    tokens: list[int]
    slots: list[int]
    protected: int
    node: CacheNode


class Simulation:
    """Requests that match, run, insert and end, with the ledger checked after each step."""

    def __init__(self, num_pages: int, page_size: int, policy: str) -> None:
        self.allocator, self.cache = make(num_pages * page_size, page_size, policy)
        self.size = page_size
        self.running: list[Running] = []
        #: (namespace, token prefix of whole pages) -> slot of its last token, as last seen.
        self.content: dict[tuple[CacheNamespace, tuple[int, ...]], int] = {}

    def start(self, namespace: CacheNamespace, tokens: list[int]) -> None:
        match = self.cache.match(namespace, tokens[:-1], admit=True)
        slots = match.slots.tolist()
        assert match.num_tokens == len(slots) == self.expected(namespace, tokens[:-1])
        assert match.num_tokens % self.size == 0
        self.check_content(namespace, tokens, slots)
        before = self.cache.num_evictable
        self.cache.lock(match.node)
        assert before - self.cache.num_evictable == sum(match.unlocked.values())
        new = self.allocate(len(slots), len(tokens), slots[-1] if slots else 0)
        if new is None:
            self.cache.unlock(match.node)
            return
        self.running.append(Running(namespace, tokens, slots + new, len(slots), match.node))

    def allocate(self, prefix: int, length: int, last: int) -> list[int] | None:
        short = self.allocator.extend_slots_needed([prefix], [length]) - self.allocator.num_free
        if short > 0:
            evictable = self.cache.num_evictable
            freed = self.cache.evict(short)
            assert freed >= min(short, evictable)
            self.forget_evicted()
        slots = self.allocator.alloc_extend([prefix], [length], [last])
        return None if slots is None else slots.tolist()

    def insert(self, request: Running) -> None:
        """A chunk is done: the cache takes whole pages, the request goes on with the cache's slots."""
        result = self.cache.insert(request.namespace, request.tokens, np.array(request.slots))
        assert result.num_tokens == len(request.tokens) - len(request.tokens) % self.size
        assert request.protected <= result.num_existing
        self.allocator.free(request.slots[request.protected : result.num_existing])
        request.slots[: result.num_tokens] = result.slots.tolist()
        self.cache.lock(result.node)
        self.cache.unlock(request.node)
        request.node, request.protected = result.node, result.num_tokens
        for end in range(self.size, result.num_tokens + 1, self.size):
            self.content[request.namespace, tuple(request.tokens[:end])] = request.slots[end - 1]

    def grow(self, request: Running, tokens: list[int]) -> None:
        new = self.allocate(len(request.slots), len(request.slots) + len(tokens), request.slots[-1])
        if new is not None:
            request.slots += new
            request.tokens = request.tokens + tokens

    def finish(self, request: Running, keep: bool) -> None:
        if keep:
            self.insert(request)
        self.allocator.free(request.slots[request.protected :])
        self.cache.unlock(request.node)
        self.running.remove(request)

    def expected(self, namespace: CacheNamespace, tokens: list[int]) -> int:
        length = 0
        while length + self.size <= len(tokens) and (namespace, tuple(tokens[: length + self.size])) in self.content:
            length += self.size
        return length

    def check_content(self, namespace: CacheNamespace, tokens: list[int], slots: list[int]) -> None:
        for end in range(self.size, len(slots) + 1, self.size):
            assert self.content[namespace, tuple(tokens[:end])] == slots[end - 1]

    def forget_evicted(self) -> None:
        owned = set(self.cache.owned_slots().tolist())
        self.content = {key: slot for key, slot in self.content.items() if slot in owned}

    def check(self) -> None:
        self.cache.check()
        owned = self.cache.owned_slots().tolist()
        private = [slot for request in self.running for slot in request.slots[request.protected :]]
        pages = [{slot // self.size for slot in slots} for slots in (owned, private)]
        free = set(self.allocator.free_pages.tolist())
        assert not pages[0] & pages[1]
        assert not (pages[0] | pages[1]) & free
        assert pages[0] | pages[1] | free == set(range(1, self.allocator.num_pages + 1))
        assert self.cache.num_evictable + self.cache.num_protected == len(owned) == len(self.content) * self.size
        protected = {slot for request in self.running for slot in request.slots[: request.protected]}
        assert protected <= set(owned)
        assert self.cache.num_protected == len(protected)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("page_size", [1, 16])
@given(num_pages=st.integers(2, 16), num_steps=st.integers(1, 80), random=st.randoms(use_true_random=True))
@settings(max_examples=60, deadline=None)
def test_random_use_keeps_the_ledger(
    page_size: int, policy: str, num_pages: int, num_steps: int, random: Random
) -> None:
    run(Simulation(num_pages, page_size, policy), num_steps, random)


@given(num_pages=st.integers(2, 12), num_steps=st.integers(1, 60), random=st.randoms(use_true_random=True))
@settings(max_examples=25, deadline=None)
def test_random_use_keeps_the_ledger_with_large_pages(num_pages: int, num_steps: int, random: Random) -> None:
    run(Simulation(num_pages, 64, "lru"), num_steps, random)


def run(simulation: Simulation, num_steps: int, random: Random) -> None:
    namespaces = [CacheNamespace(), CacheNamespace(), CacheNamespace(salt="a")]
    for _ in range(num_steps):
        action = random.choice(["start", "start", "insert", "grow", "finish", "finish", "drop", "evict"])
        if action == "start":
            simulation.start(random.choice(namespaces), some_tokens(simulation.size, random))
        elif action == "evict":
            unlocked = simulation.cache.num_evictable
            wanted = random.randint(0, 2 * simulation.size)
            assert simulation.cache.evict(wanted) >= min(wanted, unlocked)
            simulation.forget_evicted()
        elif simulation.running:
            request = random.choice(simulation.running)
            if action == "insert":
                simulation.insert(request)
            elif action == "grow":
                simulation.grow(request, some_tokens(simulation.size, random))
            else:
                simulation.finish(request, keep=action == "finish")
        simulation.check()
    for request in list(simulation.running):
        simulation.finish(request, keep=True)
    simulation.check()
    assert simulation.cache.num_protected == 0
    simulation.cache.reset()
    assert simulation.allocator.num_free == simulation.allocator.num_slots


def some_tokens(page_size: int, random: Random) -> list[int]:
    """Pages of few kinds, some alike up to their last token, and an end within a page: prefixes are shared,
    partly matched and partly filled."""
    pages = [random.choice([(0, 0), (0, 1), (1, 2)]) for _ in range(random.randint(1, 5))]
    return [token for head, last in pages for token in [head] * (page_size - 1) + [last]] + [7] * random.randrange(
        page_size
    )


# --- single behaviours ---


def test_match_stops_at_whole_pages() -> None:
    allocator, cache = make(page_size=16)
    put(allocator, cache, [1] * 40)
    assert held(cache, [1] * 40) == 32
    assert held(cache, [1] * 31) == 16
    assert held(cache, [1] * 16 + [2] * 16) == 16
    assert held(cache, [1] * 15 + [2]) == 0


def test_reply_is_reused_in_the_next_turn() -> None:
    allocator, cache = make(page_size=1)
    prompt, reply = [5, 6, 7], [8, 9]
    put(allocator, cache, prompt + reply)
    assert held(cache, [*prompt, *reply, 10]) == 5


def test_two_requests_that_finish_the_same_prompt_keep_one_copy() -> None:
    allocator, cache = make(num_slots=16)
    put(allocator, cache, [1, 2, 3, 4])
    put(allocator, cache, [1, 2, 3, 4])
    assert allocator.num_free == 12
    assert cache.num_evictable == 4
    cache.check()


def test_namespaces_never_share() -> None:
    allocator, cache = make()
    spaces = [
        CacheNamespace(),
        CacheNamespace(salt="ab", extra_key="c"),
        CacheNamespace(salt="a", extra_key="bc"),
        CacheNamespace(salt="c", extra_key="ab"),
        CacheNamespace(extra_key="abc"),
        CacheNamespace(adapter="abc"),
        CacheNamespace(weight_version=1),
    ]
    for index, space in enumerate(spaces):
        assert held(cache, [1, 2, 3], space) == 0
        put(allocator, cache, [1, 2, 3], space)
        assert [held(cache, [1, 2, 3], other) for other in spaces] == [3] * (index + 1) + [0] * (
            len(spaces) - index - 1
        )
    cache.check()


def test_asking_for_unknown_namespaces_leaves_no_trace() -> None:
    _, cache = make()
    for index in range(100):
        match = cache.match(CacheNamespace(salt=str(index)), [1, 2])
        cache.lock(match.node)
        cache.insert(CacheNamespace(salt=str(index)), [], [])
        cache.unlock(match.node)
    assert not cache._roots


def test_an_emptied_namespace_is_forgotten() -> None:
    allocator, cache = make()
    put(allocator, cache, [1, 2], CacheNamespace(salt="x"))
    assert cache.evict(2) == 2
    assert not cache._roots


def test_a_lock_survives_a_split() -> None:
    allocator, cache = make()
    node = put(allocator, cache, [1, 2, 3, 4])
    cache.lock(node)
    put(allocator, cache, [1, 2, 9])
    cache.check()
    assert (cache.num_protected, cache.num_evictable) == (4, 1)
    assert cache.evict(100) == 1
    assert held(cache, [1, 2, 3, 4]) == 4
    cache.unlock(node)
    cache.check()
    assert cache.evict(100) == 4


def test_unlocking_without_a_lock_is_a_bug() -> None:
    allocator, cache = make()
    node = put(allocator, cache, [1])
    with pytest.raises(AssertionError, match="without a lock"):
        cache.unlock(node)


def test_reset_refuses_while_something_is_locked() -> None:
    allocator, cache = make()
    cache.lock(put(allocator, cache, [1]))
    with pytest.raises(AssertionError, match="1 cached tokens are locked"):
        cache.reset()


def test_match_names_unlocked_nodes_and_the_path() -> None:
    allocator, cache = make()
    put(allocator, cache, [1, 2, 3])
    upper = cache.match(HOME, [1, 2])
    cache.lock(upper.node)
    whole = cache.match(HOME, [1, 2, 3])
    assert whole.path[:2] == upper.path
    assert whole.unlocked == {whole.node.id: 1}
    assert whole.num_tokens == 3


def test_insert_gives_the_slots_of_the_cache() -> None:
    allocator, cache = make()
    first = allocate(allocator, 3)
    cache.insert(HOME, [1, 2, 3], first)
    second = allocate(allocator, 4)
    result = cache.insert(HOME, [1, 2, 3, 4], second)
    assert (result.num_existing, result.num_tokens) == (3, 4)
    assert result.slots.tolist() == [*first.tolist(), int(second[3])]


def test_the_cache_keeps_copies_of_what_it_is_given() -> None:
    allocator, cache = make()
    tokens, slots = np.array([1, 2, 3]), allocate(allocator, 3)
    kept = slots.copy()
    cache.insert(HOME, tokens, slots)
    tokens[:] = 9
    slots[:] = 0
    assert cache.match(HOME, [1, 2, 3]).slots.tolist() == kept.tolist()


# --- eviction ---


def order_of_eviction(cache: RadixCache, prompts: dict[str, list[int]]) -> list[str]:
    """Names of the prompts in the order in which single evictions take them."""
    order: list[str] = []
    while cache.evict(1):
        # By the owned tokens, since matching would count as a use.
        kept = {tuple(node.key.tolist()) for node in cache._nodes()}
        order += [name for name, prompt in prompts.items() if tuple(prompt) not in kept and name not in order]
        cache.check()
    return order


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("lru", ["b", "c", "a"]),
        ("mru", ["a", "c", "b"]),
        ("fifo", ["a", "b", "c"]),
        ("lfu", ["c", "a", "b"]),
        ("priority", ["b", "a", "c"]),
    ],
)
def test_each_policy_takes_its_victim(policy: str, expected: list[str]) -> None:
    allocator, cache = make(policy=policy)
    prompts = {"a": [1], "b": [2], "c": [3]}
    for prompt, priority in zip(prompts.values(), [1, 0, 2], strict=True):
        put(allocator, cache, prompt, priority=priority)
    for name, admit in [("b", True), ("b", True), ("c", False), ("a", True)]:
        cache.match(HOME, prompts[name], admit=admit)
    assert order_of_eviction(cache, prompts) == expected


def test_looking_around_is_no_hit() -> None:
    allocator, cache = make(policy="lfu")
    put(allocator, cache, [1])
    put(allocator, cache, [2])
    for _ in range(5):
        cache.match(HOME, [1])
    cache.match(HOME, [2], admit=True)
    assert order_of_eviction(cache, {"a": [1], "b": [2]}) == ["a", "b"]


def test_a_split_keeps_age_hits_and_priority() -> None:
    allocator, cache = make(policy="lfu")
    put(allocator, cache, [1, 2, 3, 4], priority=3)
    for _ in range(3):
        cache.match(HOME, [1, 2, 3, 4], admit=True)
    match = cache.match(HOME, [1, 2])
    lower = cache.match(HOME, [1, 2, 3, 4]).node
    assert match.node is lower.parent
    assert (match.node.num_hits, match.node.priority, match.node.created) == (3, 3, lower.created)


def test_a_parent_goes_only_after_its_children() -> None:
    allocator, cache = make(policy="fifo")
    put(allocator, cache, [1, 2])
    put(allocator, cache, [1, 2, 3])
    put(allocator, cache, [4])
    assert cache.evict(1) == 1
    assert held(cache, [1, 2, 3]) == 2


def test_mru_sees_a_use_of_a_node_that_had_children_meanwhile() -> None:
    allocator, cache = make(policy="mru")
    put(allocator, cache, [1])
    put(allocator, cache, [2])
    put(allocator, cache, [1, 3])
    cache.evict(1)
    assert held(cache, [1, 3]) == 1
    cache.evict(1)
    assert (held(cache, [1]), held(cache, [2])) == (0, 1)


def test_many_uses_do_not_grow_the_candidates_without_bound() -> None:
    allocator, cache = make(policy="mru")
    put(allocator, cache, [1])
    for _ in range(1000):
        cache.match(HOME, [1])
    assert len(cache._heap) < 200


def test_eviction_frees_what_it_can_when_asked_for_more() -> None:
    allocator, cache = make()
    put(allocator, cache, [1, 2, 3])
    cache.lock(put(allocator, cache, [4, 5]))
    assert cache.evict(100) == 3
    assert cache.evict(1) == 0
    assert allocator.num_free == 62


def test_unknown_policies_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown eviction policy 'oldest' \(known: lru, lfu"):
        make(policy="oldest")


# --- the checks themselves ---


def test_check_finds_broken_counters_and_stray_slots() -> None:
    allocator, cache = make(page_size=16)
    node = put(allocator, cache, [1] * 32)
    cache._num_evictable += 1
    with pytest.raises(AssertionError, match="counters say 33"):
        cache.check()
    cache._num_evictable -= 1
    node.slots[3] = 99
    with pytest.raises(AssertionError, match="not whole pages"):
        cache.check()


def test_check_finds_a_slot_owned_twice() -> None:
    allocator, cache = make()
    put(allocator, cache, [1])
    node = put(allocator, cache, [2])
    node.slots[0] = cache.match(HOME, [1]).slots[0]
    with pytest.raises(AssertionError, match="two places"):
        cache.check()
