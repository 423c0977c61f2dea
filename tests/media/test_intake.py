"""MediaIntake: one decoding for many requests, room for all of them in turn, and nothing left of those that go."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hookline.errors import OverloadedError, RequestError
from hookline.interfaces.multimodal import IMAGE, VIDEO, ExpandedPrompt, MediaInput, MediaParams
from hookline.media.intake import MediaIntake
from hookline.media.prepared import PreparedMedia
from hookline.messages.segments import Segments
from tests.factories.clips import clip_frames
from tests.factories.media_processor import DIES, HANGS
from tests.factories.pictures import image_file, pixels, video_file

if TYPE_CHECKING:
    from tests.media.conftest import MakeIntake, Shelf


def _image(source: Any = None, **more: Any) -> MediaInput:
    return MediaInput(kind=IMAGE, source=image_file() if source is None else source, **more)


def _red(value: int, seed: int = 0) -> bytes:
    picture = pixels(4, 4, seed=seed)
    picture[0, 0, 0] = value
    return image_file(picture)


def _noise(seed: int, side: int = 32) -> bytes:
    values = np.random.default_rng(seed).integers(0, 100, (side, side, 3), dtype=np.uint8)
    return image_file(values)


def _pixels(prepared: PreparedMedia, index: int = 0) -> np.ndarray:
    return Segments().array(prepared.media[index].tensors[0][0]).copy()


async def test_a_picture_is_decoded_once(make_intake: MakeIntake) -> None:
    intake = make_intake()
    first = await intake.prepare([_image()])
    second = await intake.prepare([_image(), _image(_noise(1))])
    np.testing.assert_array_equal(_pixels(first), pixels())
    assert first.media[0] == second.media[0]
    assert first.media[0].digest != second.media[1].digest
    assert (intake.counts.decoded, intake.counts.reused) == ({"image": 2}, {"image": 1})
    first.release()
    # Still held by the second one.
    np.testing.assert_array_equal(_pixels(second), pixels())
    second.release()
    second.release()
    assert intake.pool.held_bytes == 0
    third = await intake.prepare([_image()])
    assert intake.counts.reused == {"image": 2}
    third.release()


async def test_processing_options_are_part_of_the_digest(make_intake: MakeIntake) -> None:
    intake = make_intake()
    media = [_image(), _image(params=MediaParams(max_pixels=100)), _image(params=MediaParams(max_pixels=200))]
    prepared = await intake.prepare(media)
    assert len({one.digest for one in prepared.media}) == 3
    assert [one.media.facts["max"] for one in prepared.media] == [None, 100, 200]
    prepared.release()


async def test_many_requests_for_one_picture_share_its_decoding(make_intake: MakeIntake, shelf: Shelf) -> None:
    intake = make_intake()
    many = await asyncio.gather(*(intake.prepare([_image()]) for _ in range(8)))
    assert intake.counts.decoded == {"image": 1}
    assert intake.counts.reused == {"image": 7}
    assert intake.pool.num_entries == 1
    for prepared in many:
        prepared.release()


async def test_items_of_a_clip_have_digests_of_their_own(make_intake: MakeIntake) -> None:
    intake = make_intake()
    prepared = await intake.prepare([MediaInput(kind=VIDEO, source=video_file(clip_frames((5, 16, 16))))])
    expanded = ExpandedPrompt(input_ids=[6] * 5, spans=[[(0, 2)], [(2, 2)], [(4, 1)]])
    items = prepared.inputs(expanded).items
    whole = prepared.media[0].digest
    assert [item.digest for item in items] == [
        hashlib.sha256(whole + index.to_bytes(4, "little")).digest() for index in range(3)
    ]
    assert [item.num_rows for item in items] == [2, 2, 1]
    assert prepared.num_tokens() == {"video": 5}
    prepared.release()


async def test_frames_and_their_rate_are_a_video(make_intake: MakeIntake) -> None:
    intake = make_intake()
    frames = [image_file(frame) for frame in clip_frames((3, 16, 16))]
    slow, fast = [await intake.prepare([MediaInput(kind=VIDEO, source=frames, fps=fps)]) for fps in (1.0, 2.0)]
    assert slow.media[0].media.facts == {"indices": [0, 1, 2], "fps": 1.0}
    assert slow.media[0].digest != fast.media[0].digest
    slow.release()
    fast.release()


async def test_items_come_in_the_order_of_their_places(make_intake: MakeIntake) -> None:
    intake = make_intake()
    prepared = await intake.prepare([_image(), _image(_noise(1))])
    expanded = ExpandedPrompt(
        input_ids=[0] * 100,
        spans=[[(50, 32)], [(3, 32)]],
        positions=np.arange(100, dtype=np.int64)[None],
        position_delta=-7,
    )
    inputs = prepared.inputs(expanded)
    assert [item.spans for item in inputs.items] == [[(3, 32)], [(50, 32)]]
    assert [item.digest for item in inputs.items] == [prepared.media[1].digest, prepared.media[0].digest]
    assert np.frombuffer(inputs.positions, "<i8").tolist() == list(range(100))
    assert inputs.position_delta == -7
    prepared.release()


# --- what is wrong with media ---


@pytest.mark.parametrize(
    ("media", "message", "code"),
    [
        ([_image(b"no", where="messages[2].content[1]")], r"^messages\[2\]\.content\[1\]: it is no picture", None),
        ([_image(), _image(image_file()[:90], where="x[1]")], r"^x\[1\]: it is damaged", None),
        ([_image(pixels(400, 400))], "a server takes references and files", None),
        ([_image(image_file(pixels(400, 400)))], "400x400 pixels", "media_too_large"),
        ([MediaInput(kind=VIDEO, source=[])], "no frames", None),
        ([MediaInput(kind=VIDEO, source=b"x")], "no video that can be decoded", None),
        ([MediaInput(kind=VIDEO, source=[image_file(), b"x"])], "frame 1: it is no picture", None),
        (
            [MediaInput(kind="audio", source=b"x")],
            "'toy' takes text and image and video, no audio",
            "unsupported_content",
        ),
        ([_image("nowhere:x")], r"refers to 'nowhere:'; this server fetches from: shelf:", "media_not_allowed"),
        ([_image("no/scheme.png")], "has no scheme", "media_not_allowed"),
        ([_image(_red(DIES))], "ended the decoder", "media_failed"),
        ([_image()] * 4, "image number 4 of this request; at most 3 are taken", "too_many_media"),
        ([_image(params=MediaParams(min_pixels=0))], "min_pixels must be an integer from 1", None),
        ([_image(params=MediaParams(max_pixels=True))], "max_pixels must be an integer from 1", None),
        ([_image(params=MediaParams(min_pixels=9, max_pixels=4))], r"min_pixels \(9\) is above", None),
        ([_image(params=MediaParams(fps=1, num_frames=2))], "say the same thing twice", None),
        ([_image(params=MediaParams(fps=float("nan")))], "fps must be a number", None),
        ([_image(params=MediaParams(num_frames=0))], "num_frames must be an integer from 1", None),
    ],
)
async def test_bad_media_are_refused_by_name(
    make_intake: MakeIntake, media: list[MediaInput], message: str, code: str | None
) -> None:
    intake = make_intake(max_images=3)
    with pytest.raises(RequestError, match=message) as caught:
        await intake.prepare(media)
    assert caught.value.status_code == 400
    if code is not None:
        assert caught.value.code == code
    assert sum(intake.counts.refused.values()) == 1


async def test_a_server_limits_pixels(make_intake: MakeIntake) -> None:
    intake = make_intake(image_max_pixels=500)
    with pytest.raises(RequestError, match=r"max_pixels is 501; this server allows 500 \(image_max_pixels\)"):
        await intake.prepare([_image(params=MediaParams(max_pixels=501))])
    prepared = await intake.prepare([_image(), _image(params=MediaParams(max_pixels=400))])
    assert [one.media.facts["max"] for one in prepared.media] == [500, 400]
    prepared.release()


async def test_files_that_are_too_large_are_refused(make_intake: MakeIntake, shelf: Shelf) -> None:
    intake = make_intake(max_image_bytes=100)
    shelf.files["shelf:a"] = bytes(101)
    for source in (bytes(101), "shelf:a"):
        with pytest.raises(RequestError, match="101 bytes; at most 100 are taken"):
            await intake.prepare([_image(source)])


async def test_a_corrupt_picture_amid_others_fails_alone(make_intake: MakeIntake) -> None:
    intake = make_intake()
    requests = [[_image(_noise(i)), _image(_noise(100 + i))] for i in range(10)]
    requests[4][1] = _image(image_file()[:100])
    requests[7][0] = _image(_red(DIES))
    results = await asyncio.gather(*(intake.prepare(media) for media in requests), return_exceptions=True)
    failed = [i for i, result in enumerate(results) if isinstance(result, BaseException)]
    assert failed == [4, 7]
    for result in results:
        if isinstance(result, PreparedMedia):
            result.release()


# --- the pool ---


async def test_requests_take_turns_when_the_pool_is_small(make_intake: MakeIntake) -> None:
    # A picture has 3 KiB of pixels; room for two of them, beside the files.
    intake = make_intake(pool_bytes=15_000, media_fetches=4)
    held: set[int] = set()

    async def client(number: int) -> None:
        prepared = await intake.prepare([_image(_noise(number, 32)), _image(_noise(number + 50, 32))])
        held.add(number)
        assert intake.pool.used_bytes <= 15_000
        np.testing.assert_array_equal(_pixels(prepared), _decoded(number))
        held.discard(number)
        prepared.release()

    await asyncio.gather(*(client(number) for number in range(6)))
    assert intake.counts.decoded["image"] >= 12


def _decoded(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, (32, 32, 3), dtype=np.uint8)


async def test_media_that_never_fit_are_refused(make_intake: MakeIntake) -> None:
    intake = make_intake(pool_bytes=6_000)
    with pytest.raises(RequestError, match=r"media_pool_gib") as caught:
        await intake.prepare([_image(image_file(np.zeros((64, 64, 3), np.uint8)))])
    assert caught.value.status_code == 413


async def test_who_waits_too_long_for_room_is_told_to_come_again(make_intake: MakeIntake) -> None:
    intake = make_intake(pool_bytes=20_000, media_pool_timeout=0.05)
    first = await intake.prepare([_image(image_file(np.zeros((70, 70, 3), np.uint8)))])
    with pytest.raises(OverloadedError, match="try again later"):
        await intake.prepare([_image(image_file(np.ones((70, 70, 3), np.uint8)))])
    first.release()
    second = await intake.prepare([_image(image_file(np.ones((70, 70, 3), np.uint8)))])
    second.release()


# --- clients that go ---


async def test_a_client_that_goes_while_its_picture_is_fetched(make_intake: MakeIntake, shelf: Shelf) -> None:
    intake = make_intake()
    shelf.gates["shelf:slow"] = asyncio.Event()
    job = asyncio.create_task(intake.prepare([_image(), _image("shelf:slow")]))
    while not shelf.num_waiting or not intake.counts.decoded:
        await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert (shelf.num_waiting, intake.pool.held_bytes) == (0, 0)


async def test_a_client_that_goes_while_its_picture_is_decoded(make_intake: MakeIntake) -> None:
    intake = make_intake()
    job = asyncio.create_task(intake.prepare([_image(_red(HANGS))]))
    while not intake.figures().num_decoding:
        await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert intake.figures().num_decoding == 0


async def test_one_of_two_clients_of_a_picture_goes(make_intake: MakeIntake) -> None:
    intake = make_intake()
    first = asyncio.create_task(intake.prepare([_image()]))
    second = asyncio.create_task(intake.prepare([_image()]))
    while not intake.counts.reused:
        await asyncio.sleep(0)
    first.cancel()
    prepared = await second
    np.testing.assert_array_equal(_pixels(prepared), pixels())
    assert intake.counts.decoded == {"image": 1}
    prepared.release()


async def test_the_end_of_a_server_leaves_nothing(make_intake: MakeIntake, setup: Any) -> None:
    intake: MediaIntake = make_intake()
    prepared = await intake.prepare([_image()])
    job = asyncio.create_task(intake.prepare([_image(_red(HANGS))]))
    while not intake.figures().num_decoding:
        await asyncio.sleep(0.01)
    await intake.close()
    with pytest.raises((asyncio.CancelledError, RequestError)):
        await job
    assert list(Path("/dev/shm").glob(f"{setup.prefix}*")) == []
    prepared.release()
