"""EmbeddingCache: budgets, pins, and orders that a worker can follow."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from hookline.cache.embedding_cache import EmbeddingCache


def test_rows_are_encoded_once_and_found_again() -> None:
    cache = EmbeddingCache(100, 0)
    cache.add(b"a", 40)
    assert b"a" in cache
    assert cache.take_orders() == ([], [], [b"a"])
    assert cache.take_orders() == ([], [], [])
    cache.unpin(b"a")
    assert b"a" in cache
    assert (cache.device_used, cache.pinned_bytes) == (40, 0)


def test_the_one_used_longest_ago_moves_to_the_host_and_then_away() -> None:
    cache = EmbeddingCache(100, 50)
    for digest in (b"a", b"b"):
        cache.add(digest, 40)
        cache.unpin(digest)
    cache.take_orders()
    cache.pin(b"a")
    cache.unpin(b"a")
    cache.add(b"c", 40)
    assert cache.take_orders() == ([b"b"], [], [b"c"])
    assert (cache.device_used, cache.host_used) == (80, 40)
    cache.add(b"d", 40)
    # The host has no room for two: the one that moved first is dropped.
    assert cache.take_orders() == ([b"a"], [b"b"], [b"d"])
    assert b"b" not in cache
    cache.check({b"c": 1, b"d": 1})


def test_pinned_rows_may_move_but_stay() -> None:
    cache = EmbeddingCache(0, 40)
    for digest in (b"a", b"b"):
        cache.add(digest, 40)
        cache.take_orders()
    assert {b"a", b"b"} <= set(cache.digests)
    assert cache.pinned_bytes == 80
    cache.unpin(b"a")
    cache.unpin(b"b")
    assert (cache.device_used, cache.host_used) == (0, 40)
    cache.check({})


def test_without_any_budget_rows_go_with_their_last_pin() -> None:
    cache = EmbeddingCache(0, 0)
    cache.add(b"a", 40)
    cache.pin(b"a")
    assert cache.take_orders() == ([], [], [b"a"])
    cache.unpin(b"a")
    assert cache.take_orders() == ([], [], [])
    cache.unpin(b"a")
    assert cache.take_orders() == ([], [b"a"], [])
    assert len(cache) == 0


def test_forgotten_rows_are_dropped_unless_nobody_was_told_of_them() -> None:
    cache = EmbeddingCache(100, 0)
    cache.add(b"a", 40)
    cache.take_orders()
    cache.add(b"b", 40)
    for digest in (b"a", b"b", b"never"):
        cache.forget(digest)
    assert cache.take_orders() == ([], [b"a"], [])
    assert (cache.device_used, cache.pinned_bytes) == (0, 0)
    cache.unpin(b"a")
    cache.check({})


def test_any_sequence_of_calls_gives_orders_that_can_be_followed() -> None:
    rng = random.Random(3)
    for _ in range(60):
        cache = EmbeddingCache(rng.choice([0, 60, 200]), rng.choice([0, 50, 300]))
        device: set[bytes] = set()
        host: set[bytes] = set()
        pins: list[bytes] = []
        for _ in range(120):
            digest = bytes([rng.randrange(12)])
            action = rng.random()
            if action < 0.45:
                if digest in cache:
                    cache.pin(digest)
                else:
                    cache.add(digest, 10 + digest[0])
                pins.append(digest)
            elif action < 0.85 and pins:
                cache.unpin(pins.pop(rng.randrange(len(pins))))
            elif action < 0.88:
                cache.forget(digest)
                pins = [held for held in pins if held != digest]
            if rng.random() < 0.6:
                offload, drop, encode = cache.take_orders()
                for moved in offload:
                    device.remove(moved)
                    host.add(moved)
                for gone in drop:
                    (host if gone in host else device).remove(gone)
                assert not set(encode) & (device | host)
                device |= set(encode)
                assert set(cache.digests) == device | host
            assert set(pins) <= set(cache.digests)
            cache.check(Counter(pins))


def test_a_pin_that_nobody_holds_is_found() -> None:
    cache = EmbeddingCache(100, 0)
    cache.add(b"a", 40)
    cache.check({b"a": 1})
    with pytest.raises(AssertionError, match="item 61 has 1 pins, but 0 are held"):
        cache.check({})
