"""Bytes of a clip as frames, with PyAV. Only the frames that are asked for are kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hookline.errors import RequestError
from hookline.interfaces.multimodal import ClipInfo, DecodedVideo
from hookline.media.limits import DecodeLimits

if TYPE_CHECKING:
    from av.container import InputContainer

#: Chooses frames: indices, ascending, from what the container says.
Sampler = Callable[[ClipInfo], Sequence[int]]
#: Containers that may be read. FFmpeg knows others that open further files or addresses.
FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "gif", "mpegts", "flv", "ogg", "mpeg")
#: Told to FFmpeg before it looks at a file: playlists and the like would open what they name.
_OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none"}


def decode_video(data: bytes, sample: Sampler, limits: DecodeLimits) -> DecodedVideo:
    """The frames that ``sample`` chooses. Raises ``RequestError`` saying what is wrong with the bytes."""
    import av

    try:
        with av.open(io.BytesIO(data), "r", metadata_errors="ignore", options=_OPTIONS) as container:
            if container.format.name not in FORMATS:
                raise RequestError(f"it is no video in a known container but '{container.format.name}'")
            info = _info(container, limits)
            if info.num_frames < 1:
                # Some containers do not say; whoever wants to know must look at every packet.
                info = _counted(data, info)
            indices = list(sample(info))
            _check_pixels(info, len(set(indices)), limits)
            frames = _frames(container, indices, limits)
    except RequestError:
        raise
    except MemoryError as exc:
        raise RequestError("decoding it takes more memory than a decoder may have (media_decode_gib)") from exc
    except Exception as exc:
        # Whatever FFmpeg says of a client's bytes is the client's error.
        raise RequestError(f"it is no video that can be decoded: {exc!s:.200}") from exc
    return DecodedVideo(frames=frames, indices=indices, info=info)


def frames_as_video(frames: Sequence[NDArray[np.uint8]], fps: float | None, limits: DecodeLimits) -> DecodedVideo:
    """Frames [H, W, 3] that were chosen before. Raises ``RequestError`` unless all are of one size."""
    if not frames:
        raise RequestError("the video has no frames")
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height}" for height, width in sizes[:3])
        raise RequestError(f"its frames are of different sizes ({shown}); all frames of a video must have one size")
    height, width = sizes[0]
    info = ClipInfo(num_frames=len(frames), height=height, width=width, fps=fps)
    _check_pixels(info, len(frames), limits)
    return DecodedVideo(frames=np.stack(frames), indices=list(range(len(frames))), info=info)


def _info(container: InputContainer, limits: DecodeLimits) -> ClipInfo:
    if not container.streams.video:
        raise RequestError("it has no video stream")
    stream = container.streams.video[0]
    rate = stream.average_rate
    if stream.width * stream.height > limits.max_image_pixels:
        raise RequestError(
            f"its frames have {stream.width}x{stream.height} pixels; at most {limits.max_image_pixels} are taken "
            "(max_image_megapixels)",
            code="media_too_large",
        )
    fps = float(rate) if rate else None
    return ClipInfo(
        num_frames=stream.frames,
        height=stream.height,
        width=stream.width,
        fps=fps,
        duration=stream.frames / fps if fps and stream.frames else None,
    )


def _counted(data: bytes, info: ClipInfo) -> ClipInfo:
    import av

    with av.open(io.BytesIO(data), "r", metadata_errors="ignore", options=_OPTIONS) as container:
        count = len([packet for packet in container.demux(video=0) if packet.size])
    if count < 1:
        raise RequestError("the video has no frames")
    return ClipInfo(
        num_frames=count,
        height=info.height,
        width=info.width,
        fps=info.fps,
        duration=count / info.fps if info.fps else None,
    )


def _check_pixels(info: ClipInfo, num_frames: int, limits: DecodeLimits) -> None:
    if num_frames * info.height * info.width > limits.max_video_pixels:
        raise RequestError(
            f"{num_frames} frames of {info.width}x{info.height} pixels are more than the {limits.max_video_pixels} "
            "pixels that are taken of a video (max_video_megapixels); ask for fewer frames (fps, num_frames)",
            code="media_too_large",
        )


def _frames(container: InputContainer, indices: Sequence[int], limits: DecodeLimits) -> NDArray[np.uint8]:
    """[F, H, W, 3]: the frames of these indices, ascending, one of them several times if it is named so."""
    wanted = iter(indices)
    place = next(wanted, None)
    taken: list[NDArray[np.uint8]] = []
    for number, frame in enumerate(_decoded(container)):
        if place is None:
            break
        if number != place:
            continue
        pixels = _pixels(frame, taken, limits)
        while place == number:
            taken.append(pixels)
            place = next(wanted, None)
    if place is not None:
        if not taken:
            raise RequestError("the video has no frames that can be decoded")
        raise RequestError(
            f"the video ends before its frame {place}: its index says more than it holds, or it is cut off"
        )
    return np.stack(taken)


def _decoded(container: InputContainer) -> Iterator[Any]:
    container.streams.video[0].thread_type = "NONE"
    yield from container.decode(video=0)


def _pixels(frame: Any, taken: Sequence[NDArray[np.uint8]], limits: DecodeLimits) -> NDArray[np.uint8]:
    if frame.width * frame.height > limits.max_image_pixels:
        raise RequestError("its frames are larger than it says", code="media_too_large")
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    if taken and pixels.shape != taken[0].shape:
        raise RequestError("its frames change their size; all frames of a video must have one size")
    return pixels
