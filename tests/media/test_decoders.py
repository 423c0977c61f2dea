"""Decoders: what becomes of good media, bad media, and media that take the process with them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hookline.errors import RequestError
from hookline.interfaces.multimodal import IMAGE, NO_PARAMS, VIDEO
from hookline.media.decoders import Decoders
from hookline.media.jobs import DecoderSetup, Processed
from hookline.media.pool import PoolFullError
from hookline.media.segments import FOLDER
from hookline.messages.requests import MediaTensor
from hookline.messages.segments import Segments
from tests.factories.clips import clip_frames
from tests.factories.media_processor import DIES, EATS_MEMORY, FAILS, HANGS, REFUSES
from tests.factories.pictures import image_file, pixels, video_file


def _red(value: int) -> bytes:
    picture = pixels(4, 4)
    picture[0, 0, 0] = value
    return image_file(picture)


def _segments(setup: DecoderSetup) -> list[str]:
    return [path.name for path in FOLDER.glob(f"{setup.prefix}*")]


async def _run(decoders: Decoders, setup: DecoderSetup, blob: bytes, **more: Any) -> Processed:
    rooms: list[int] = []
    return await decoders.run(IMAGE, [blob], NO_PARAMS, segment=f"{setup.prefix}1", make_room=rooms.append, **more)


def _arrays(done: Processed, segment: str) -> list[dict[str, Any]]:
    segments = Segments()
    return [
        {
            one.name: segments.array(
                MediaTensor(name=one.name, dtype=one.dtype, shape=tuple(one.shape), segment=segment, offset=one.offset)
            ).copy()
            for one in item.tensors
        }
        for item in done.items
    ]


async def test_arrays_lie_in_the_segment(setup: DecoderSetup) -> None:
    decoders = Decoders(setup, count=1, timeout=60)
    try:
        done = await _run(decoders, setup, image_file())
        (arrays,) = _arrays(done, f"{setup.prefix}1")
        np.testing.assert_array_equal(arrays["pixels"], pixels())
        np.testing.assert_array_equal(arrays["mean"], np.array([pixels().mean()], np.float32))
        assert (done.items[0].num_rows, done.facts) == (64, {"max": None})
        assert (FOLDER / f"{setup.prefix}1").stat().st_mode & 0o777 == 0o600
    finally:
        await decoders.close()
        os.unlink(FOLDER / f"{setup.prefix}1")


async def test_videos_and_frames(setup: DecoderSetup) -> None:
    decoders = Decoders(setup, count=1, timeout=60)
    frames = clip_frames((5, 16, 16))
    segment = f"{setup.prefix}1"
    try:
        done = await decoders.run(VIDEO, [video_file(frames)], NO_PARAMS, segment=segment, make_room=lambda size: None)
        joined = np.concatenate([arrays["pixels"] for arrays in _arrays(done, segment)])
        np.testing.assert_array_equal(joined, frames)
        assert [item.num_rows for item in done.items] == [2, 2, 1]
        os.unlink(FOLDER / segment)
        done = await decoders.run(
            VIDEO,
            [image_file(frame) for frame in frames],
            NO_PARAMS,
            segment=segment,
            make_room=lambda size: None,
            is_frames=True,
            fps=2.5,
        )
        np.testing.assert_array_equal(np.concatenate([arrays["pixels"] for arrays in _arrays(done, segment)]), frames)
        assert done.facts == {"indices": [0, 1, 2, 3, 4], "fps": 2.5}
    finally:
        await decoders.close()
        os.unlink(FOLDER / segment)


async def test_one_is_started_ahead_and_takes_the_first_job(setup: DecoderSetup) -> None:
    decoders = Decoders(setup, count=2, timeout=60)
    try:
        assert decoders.pids == []
        await decoders.start_ahead()
        await decoders.start_ahead()
        (pid,) = decoders.pids
        await _run(decoders, setup, image_file())
        assert decoders.pids == [pid]
    finally:
        await decoders.close()
        os.unlink(FOLDER / f"{setup.prefix}1")


@pytest.mark.parametrize(
    ("red", "status", "message"),
    [
        (DIES, 400, r"ended the decoder \(SIGKILL\)"),
        (EATS_MEMORY, 400, "takes more memory than a decoder may have"),
        (FAILS, 500, "processing it failed: ValueError: a bug"),
        (REFUSES, 400, "too red"),
    ],
)
async def test_a_bad_medium_fails_alone(setup: DecoderSetup, red: int, status: int, message: str) -> None:
    decoders = Decoders(setup, count=1, timeout=60)
    try:
        with pytest.raises(RequestError, match=message) as caught:
            await _run(decoders, setup, _red(red))
        assert caught.value.status_code == status
        assert _segments(setup) == []
        # The next one finds a decoder.
        done = await _run(decoders, setup, image_file())
        assert done.items[0].num_rows == 64
    finally:
        await decoders.close()
        os.unlink(FOLDER / f"{setup.prefix}1")


async def test_a_medium_that_takes_too_long_costs_its_process(setup: DecoderSetup) -> None:
    decoders = Decoders(setup, count=1, timeout=1.5)
    try:
        with pytest.raises(RequestError, match=r"took more than 1\.5 s"):
            await _run(decoders, setup, _red(HANGS))
        assert decoders.pids == []
    finally:
        await decoders.close()


async def test_a_job_that_nobody_wants_is_killed(setup: DecoderSetup) -> None:
    decoders = Decoders(setup, count=1, timeout=60)
    job = asyncio.create_task(_run(decoders, setup, _red(HANGS)))
    while not decoders.pids:
        await asyncio.sleep(0.01)
    (pid,) = decoders.pids
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await decoders.close()


async def test_without_room_nothing_is_written(setup: DecoderSetup) -> None:
    decoders = Decoders(setup, count=1, timeout=60)

    def full(size: int) -> None:
        raise PoolFullError(size)

    try:
        for _ in range(2):
            with pytest.raises(PoolFullError):
                await decoders.run(IMAGE, [image_file()], NO_PARAMS, segment=f"{setup.prefix}1", make_room=full)
        assert _segments(setup) == []
        assert len(decoders.pids) == 1
    finally:
        await decoders.close()


async def test_no_shared_memory_is_an_overload(setup: DecoderSetup, tmp_path: Path) -> None:
    # A segment of that name is in the way: whatever creating it meets fails this job alone.
    decoders = Decoders(setup, count=1, timeout=60)
    try:
        with pytest.raises(RequestError, match="processing it failed"):
            await decoders.run(
                IMAGE, [image_file()], NO_PARAMS, segment=f"{setup.prefix}no/such", make_room=lambda size: None
            )
    finally:
        await decoders.close()


def test_segments_do_not_outlive_a_server_that_is_killed(setup: DecoderSetup, tmp_path: Path) -> None:
    program = """
        import asyncio, os, signal, sys
        import msgspec
        from hookline.interfaces.multimodal import NO_PARAMS
        from hookline.media.decoders import Decoders
        from hookline.media.jobs import DecoderSetup
        from tests.factories.pictures import image_file

        async def main():
            setup = msgspec.msgpack.decode(open(sys.argv[1], "rb").read(), type=DecoderSetup)
            decoders = Decoders(setup, count=1, timeout=60)
            await decoders.run("image", [image_file()], NO_PARAMS, segment=setup.prefix + "1", make_room=print)
            assert os.path.exists("/dev/shm/" + setup.prefix + "1")
            print(decoders.pids[0], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    file = tmp_path / "setup"
    file.write_bytes(msgspec.msgpack.encode(setup))
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(file)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout.split()[-1])
    # The decoder sees that the server has gone, cleans up and ends.
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        os.sched_yield()
    assert _segments(setup) == []
