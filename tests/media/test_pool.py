"""MediaPool: the budget holds, whatever comes and goes."""

from __future__ import annotations

import asyncio
import random

import pytest

from hookline.errors import OverloadedError, RequestError
from hookline.media.pool import Entry, MediaPool, PoolFullError


class _Removed(list[str]):
    def __call__(self, segment: str) -> None:
        self.append(segment)


def _pool(max_bytes: int = 100) -> tuple[MediaPool, _Removed]:
    removed = _Removed()
    return MediaPool(max_bytes, remove=removed), removed


async def _entry(pool: MediaPool, name: str, num_bytes: int) -> Entry:
    admission = await pool.admit(0, timeout=1)
    pool.take(num_bytes, admission)
    entry = pool.add(name.encode(), name, num_bytes, name)
    pool.leave(admission)
    return entry


async def test_entries_stay_until_others_need_the_room() -> None:
    pool, removed = _pool()
    first, second = await _entry(pool, "a", 40), await _entry(pool, "b", 40)
    pool.release([first, second])
    assert (pool.used_bytes, pool.held_bytes, removed) == (80, 0, [])
    found = pool.find(b"a")
    assert found is first
    pool.release([found])
    # "a" was used last: "b" leaves.
    third = await _entry(pool, "c", 50)
    assert removed == ["b"]
    assert pool.find(b"b") is None
    assert (pool.used_bytes, pool.held_bytes) == (90, 50)
    pool.release([third])


async def test_held_entries_never_leave() -> None:
    pool, removed = _pool()
    await _entry(pool, "a", 60)
    admission = await pool.admit(0, timeout=1)
    with pytest.raises(PoolFullError):
        pool.take(50, admission)
    assert removed == []
    assert pool.used_bytes == 60


async def test_requests_wait_in_their_order() -> None:
    pool, _ = _pool()
    entry = await _entry(pool, "a", 80)
    order: list[str] = []

    async def enter(name: str, num_bytes: int) -> None:
        admission = await pool.admit(num_bytes, timeout=5)
        order.append(name)
        pool.leave(admission)

    waiting = [asyncio.create_task(enter("large", 90)), asyncio.create_task(enter("small", 1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The small one would fit, but came later.
    assert (order, pool.num_waiting) == ([], 2)
    pool.release([entry])
    await asyncio.gather(*waiting)
    assert order == ["large", "small"]
    assert pool.held_bytes == 0


async def test_who_waits_too_long_is_turned_away() -> None:
    pool, _ = _pool()
    await _entry(pool, "a", 80)
    with pytest.raises(OverloadedError, match=r"media_pool_gib.*try again later"):
        await pool.admit(30, timeout=0.01)
    assert (pool.num_waiting, pool.used_bytes) == (0, 80)


async def test_what_can_never_fit_is_told_at_once() -> None:
    pool, _ = _pool()
    with pytest.raises(RequestError, match="need 101 bytes, the server has 100") as caught:
        await pool.admit(101, timeout=5)
    assert caught.value.status_code == 413


async def test_who_leaves_the_queue_leaves_nothing() -> None:
    pool, _ = _pool()
    entry = await _entry(pool, "a", 80)
    first = asyncio.create_task(pool.admit(50, timeout=5))
    second = asyncio.create_task(pool.admit(50, timeout=5))
    await asyncio.sleep(0)
    # Let in, and gone before it could notice.
    pool.release([entry])
    first.cancel()
    admission = await second
    with pytest.raises(asyncio.CancelledError):
        await first
    pool.leave(admission)
    assert (pool.held_bytes, pool.num_waiting) == (0, 0)


async def test_an_admission_is_used_up_first() -> None:
    pool, _ = _pool()
    admission = await pool.admit(60, timeout=1)
    room = pool.split(admission, 40)
    pool.shrink(admission, 10)
    pool.shrink(admission, 30)
    assert pool.used_bytes == 50
    pool.take(30, room)
    assert pool.used_bytes == 50
    pool.take(30, room)
    assert pool.used_bytes == 70
    pool.give_back(60)
    pool.leave(room)
    pool.leave(room)
    assert pool.used_bytes == 10
    pool.leave(admission)
    assert pool.used_bytes == 0


async def test_a_random_day_balances() -> None:
    pool, removed = _pool(1000)
    draw = random.Random(4)
    held: list[Entry] = []
    sizes: dict[str, int] = {}
    for number in range(700):
        if held and draw.random() < 0.5:
            pool.release([held.pop(draw.randrange(len(held)))])
            continue
        name = f"m{draw.randrange(60)}"
        entry = pool.find(name.encode())
        if entry is None:
            size = draw.randrange(1, 200)
            admission = await pool.admit(0, timeout=1)
            try:
                pool.take(size, admission)
            except PoolFullError:
                continue
            finally:
                pool.leave(admission)
            segment = f"{name}-{number}"
            sizes[segment] = size
            entry = pool.add(name.encode(), segment, size, None)
        held.append(entry)
        assert pool.used_bytes <= 1000
        assert pool.used_bytes == sum(size for segment, size in sizes.items() if segment not in removed)
        assert pool.held_bytes == sum(entry.num_bytes for entry in set(held))
    assert len(removed) == len(set(removed)) > 10
    pool.clear()
    assert set(removed) == set(sizes)
    assert pool.used_bytes == 0
