from __future__ import annotations

from typing import Any

import orjson

from hookline_api.options import ApiOptions
from hookline_api.responses.store import ResponseStore, StoredResponse


def _stored(name: str, text: str = "") -> StoredResponse:
    return StoredResponse(response={"id": name}, items=[{"content": text}])


def _store(**options: Any) -> ResponseStore:
    return ResponseStore(ApiOptions(**options))


def test_what_was_put_is_found() -> None:
    store = _store()
    stored = _stored("a")
    store.put(stored)
    assert store.get("a") is stored
    assert store.get("b") is None


def test_the_longest_unused_goes_when_there_are_too_many() -> None:
    store = _store(max_stored_responses=2)
    store.put(_stored("a"))
    store.put(_stored("b"))
    store.get("a")
    store.put(_stored("c"))
    assert [name for name in "abc" if store.get(name) is not None] == ["a", "c"]


def test_bytes_are_bounded() -> None:
    size = len(orjson.dumps([{"id": "a"}, [{"content": "x" * 100}]]))
    store = _store(max_stored_bytes=2 * size)
    for name in "abc":
        store.put(_stored(name, "x" * 100))
    assert [name for name in "abc" if store.get(name) is not None] == ["b", "c"]
    store.remove("b")
    store.put(_stored("d", "x" * 100))
    assert store.get("c") is not None


def test_what_is_larger_than_everything_is_not_kept() -> None:
    store = _store(max_stored_bytes=50)
    store.put(_stored("a"))
    store.put(_stored("b", "x" * 100))
    assert store.get("a") is not None
    assert store.get("b") is None


def test_none_is_kept_if_none_may_be() -> None:
    store = _store(max_stored_responses=0)
    store.put(_stored("a"))
    assert len(store) == 0


def test_old_ones_go() -> None:
    now = 0.0
    store = ResponseStore(ApiOptions(max_stored_seconds=10), clock=lambda: now)
    store.put(_stored("a"))
    now = 9.0
    store.put(_stored("b"))
    assert store.get("a") is not None
    now = 11.0
    assert store.get("a") is None
    assert not store.remove("a")
    assert len(store) == 1


def test_removing_forgets() -> None:
    store = _store()
    store.put(_stored("a"))
    assert store.remove("a")
    assert not store.remove("a")
    assert store.get("a") is None
