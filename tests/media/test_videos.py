"""Bytes of clips as frames."""

from __future__ import annotations

import io
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from transformers.video_utils import read_video_pyav

from hookline.errors import RequestError
from hookline.interfaces.multimodal import ClipInfo
from hookline.media.limits import DecodeLimits
from hookline.media.videos import decode_video, frames_as_video
from tests.factories.clips import clip_frames
from tests.factories.pictures import image_file, pixels, video_file

LIMITS = DecodeLimits(max_image_pixels=10_000, max_video_pixels=50_000)
FRAMES = clip_frames((7, 48, 64))


def _all(clip: ClipInfo) -> Sequence[int]:
    return range(clip.num_frames)


@pytest.mark.parametrize("form", ["mov", "matroska", "avi"])
def test_chosen_frames_come_bit_by_bit(form: str) -> None:
    seen: list[ClipInfo] = []

    def sample(clip: ClipInfo) -> Sequence[int]:
        seen.append(clip)
        return [0, 3, 3, 6]

    video = decode_video(video_file(FRAMES, fps=5, form=form), sample, LIMITS)
    np.testing.assert_array_equal(video.frames, FRAMES[[0, 3, 3, 6]])
    assert video.indices == [0, 3, 3, 6]
    (clip,) = seen
    assert (clip.num_frames, clip.height, clip.width) == (7, 48, 64)
    assert clip.fps == pytest.approx(5)
    assert video.info == clip


@pytest.mark.parametrize("form", ["mp4", "avi"])
def test_frames_are_those_that_transformers_reads(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"clip.{form}"
    file.write_bytes(_lossy(form))
    indices = [0, 2, 3, 6]
    seen: list[ClipInfo] = []

    def sample(clip: ClipInfo) -> Sequence[int]:
        seen.append(clip)
        return indices

    path: Any = str(file)
    expected, metadata = read_video_pyav(path, lambda metadata: np.array(indices))
    video = decode_video(file.read_bytes(), sample, LIMITS)
    np.testing.assert_array_equal(video.frames, expected)
    (clip,) = seen
    assert (clip.num_frames, clip.fps) == (metadata.total_num_frames, metadata.fps)
    assert (clip.height, clip.width) == (metadata.height, metadata.width)


def _lossy(form: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream: Any = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def test_a_container_that_does_not_count_is_counted() -> None:
    # Matroska has no number of frames.
    video = decode_video(video_file(FRAMES, form="matroska"), _all, LIMITS)
    assert len(video.frames) == 7
    assert video.info.duration == pytest.approx(7 / 4)


def test_a_gif_is_a_video_too() -> None:
    from PIL import Image

    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    file = image_file(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=500)
    video = decode_video(file, _all, LIMITS)
    assert video.frames.shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no video that can be decoded"),
        (b"not a video", "no video that can be decoded"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "no video"),
        (image_file(form="BMP"), "no video"),
        (video_file(FRAMES)[:200], "no video|no frames|ends before"),
    ],
)
def test_what_is_no_video_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_video(data, _all, LIMITS)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:PORT/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://127.0.0.1:PORT/a.mp4\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><BaseURL>'
        "http://127.0.0.1:PORT/</BaseURL><Period><AdaptationSet><Representation><SegmentList>"
        '<SegmentURL media="a.mp4"/></SegmentList></Representation></AdaptationSet></Period></MPD>',
    ],
)
def test_a_file_opens_nothing_that_it_names(playlist: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        data = playlist.replace("PORT", str(listener.getsockname()[1])).encode()
        with pytest.raises(RequestError, match="no video that can be decoded"):
            decode_video(data, _all, LIMITS)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_an_index_that_says_more_than_there_is() -> None:
    with pytest.raises(RequestError, match="ends before its frame 9"):
        decode_video(video_file(FRAMES), lambda clip: [0, 9], LIMITS)


def test_a_file_that_is_cut_off_in_its_frames() -> None:
    # Matroska is read from the front: what is there decodes, the rest is missed.
    whole = video_file(FRAMES, form="matroska")
    with pytest.raises(RequestError, match=r"ends before|no video that can be decoded"):
        decode_video(whole[: len(whole) * 2 // 3], lambda clip: range(7), LIMITS)


def test_a_sound_has_no_frames(tmp_path: Any) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(RequestError, match="no video stream"):
        decode_video(file.getvalue(), _all, LIMITS)


def test_large_frames_and_many_frames_are_refused() -> None:
    with pytest.raises(RequestError, match="frames have 200x100 pixels; at most 10000 are taken"):
        decode_video(video_file(clip_frames((1, 100, 200))), _all, LIMITS)
    with pytest.raises(RequestError, match=r"20 frames of 64x48 pixels are more than the 50000 .*\(fps, num_frames\)"):
        decode_video(video_file(clip_frames((20, 48, 64))), _all, LIMITS)


def test_frames_of_one_size_are_a_video() -> None:
    video = frames_as_video(list(FRAMES[:3]), 2.0, LIMITS)
    np.testing.assert_array_equal(video.frames, FRAMES[:3])
    assert (video.indices, video.info.fps, video.info.num_frames) == ([0, 1, 2], 2.0, 3)


def test_frames_that_are_no_video() -> None:
    with pytest.raises(RequestError, match="no frames"):
        frames_as_video([], None, LIMITS)
    with pytest.raises(RequestError, match="different sizes"):
        frames_as_video([pixels(8, 8), pixels(8, 16)], None, LIMITS)
    with pytest.raises(RequestError, match="more than the 50000"):
        frames_as_video([pixels(100, 100)] * 6, None, LIMITS)
