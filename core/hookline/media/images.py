"""Bytes of a picture as pixels, with Pillow.

Turned as its EXIF data say; transparent parts on white; 16-bit grey scaled to 8 bits; the first frame of an animation.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hookline.errors import RequestError
from hookline.media.limits import DecodeLimits

if TYPE_CHECKING:
    from PIL import Image

#: Formats whose decoders are in wide use; Pillow knows many more, and files choose their own.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
#: Modes with 16 or 32 bits in one channel.
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def decode_image(data: bytes, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Pixels [H, W, 3], RGB. Raises ``RequestError`` saying what is wrong with the bytes."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Odd metadata and Pillow's own, smaller limit: not of interest here.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image, limits)
                image.load()
                return rgb_pixels(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as exc:
        raise RequestError(f"it is no picture in a known format ({', '.join(FORMATS)}){_looks_like(data)}") from exc
    except RequestError:
        raise
    except Image.DecompressionBombError as exc:
        message = f"it has too many pixels; at most {limits.max_image_pixels} are taken (max_image_megapixels)"
        raise RequestError(message, code="media_too_large") from exc
    except MemoryError as exc:
        raise RequestError("decoding it takes more memory than a decoder may have (media_decode_gib)") from exc
    except Exception as exc:
        # Whatever Pillow raises over a client's bytes is the client's error.
        raise RequestError(f"it is damaged: {exc!s:.200}") from exc


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of any mode as [H, W, 3] RGB; transparent parts lie on white."""
    from PIL import Image

    if image.mode in _DEEP_MODES:
        grey = _eight_bits(image)
        return np.stack((grey, grey, grey), axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, layer).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """One deep channel [H, W] in bytes. Pillow alone would cut off what is above 255."""
    values: NDArray[Any] = np.asarray(image)
    if values.dtype.kind == "f":
        scale = 255.0 if float(values.max(initial=0.0)) <= 1.0 else 1.0
        return np.asarray(np.clip(np.nan_to_num(values) * scale, 0, 255), np.uint8)
    deep = values.dtype.itemsize == 2 or int(values.max(initial=0)) > 255
    return np.asarray(np.clip(values.astype(np.int64) // 257 if deep else values, 0, 255), np.uint8)


def _check_size(image: Image.Image, limits: DecodeLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise RequestError("it has no pixels")
    if width * height > limits.max_image_pixels:
        raise RequestError(
            f"it has {width}x{height} pixels; at most {limits.max_image_pixels} are taken (max_image_megapixels)",
            code="media_too_large",
        )


def _looks_like(data: bytes) -> str:
    if not data:
        return ": it is empty"
    start = data[:200].lstrip().lower()
    return ": it is an HTML page" if start.startswith((b"<!doctype html", b"<html")) else ""
