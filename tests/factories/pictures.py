"""Files of pictures and clips for tests, good ones and bad ones."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.factories.clips import clip_frames


def pixels(height: int = 64, width: int = 96, *, seed: int = 0) -> NDArray[np.uint8]:
    """[H, W, 3], different for every seed."""
    frame = clip_frames((1, height, width))[0]
    return (frame + np.uint8(17 * seed % 256)).astype(np.uint8)


def image_file(image: Image.Image | NDArray[Any] | None = None, form: str = "PNG", **options: Any) -> bytes:
    """A file of a picture, of a default one if none is given."""
    if image is None:
        image = pixels()
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file that says it is so large, and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1024), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def video_file(frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], *, fps: int = 4, form: str = "mov") -> bytes:
    """A file of a clip whose frames come back bit by bit."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        # Matroska takes no PNG.
        codec, layout = ("ffv1", "bgr0") if form == "matroska" else ("png", "rgb24")
        stream: Any = container.add_stream(codec, rate=Fraction(fps))
        height, width = frames[0].shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, layout
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
