"""Bytes of pictures as pixels: every odd picture has one answer."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hookline.errors import RequestError
from hookline.media.images import decode_image
from hookline.media.limits import DecodeLimits
from tests.factories.pictures import image_file, pixels, png_of_size

LIMITS = DecodeLimits(max_image_pixels=1_000_000, max_video_pixels=10_000_000)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_formats(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    source = pixels() // 64 * 64 if form == "GIF" else pixels()
    decoded = decode_image(image_file(source, form, **options), LIMITS)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, source)


def test_jpeg_is_what_pillow_makes_of_it() -> None:
    file = image_file(form="JPEG")
    np.testing.assert_array_equal(decode_image(file, LIMITS), np.asarray(Image.open(io.BytesIO(file)).convert("RGB")))


def test_a_picture_is_turned_as_its_exif_data_say() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is on its right
    decoded = decode_image(image_file(pixels(20, 40), "PNG", exif=exif), LIMITS)
    np.testing.assert_array_equal(decoded, np.rot90(pixels(20, 40), k=-1))


def test_transparent_parts_lie_on_white() -> None:
    values = np.zeros((2, 2, 4), np.uint8)
    values[0, 0] = (10, 20, 30, 255)
    values[1, 1] = (0, 0, 0, 128)
    decoded = decode_image(image_file(values), LIMITS)
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[0, 1].tolist() == [255, 255, 255]
    assert decoded[1, 1].tolist() == [127, 127, 127]


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    decoded = decode_image(image_file(image, transparency=1), LIMITS)
    assert decoded.tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    decoded = decode_image(image_file(values), LIMITS)
    assert decoded[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (decoded == decoded[..., :1]).all()


def test_grey_and_cmyk_become_rgb() -> None:
    assert decode_image(image_file(Image.new("L", (2, 2), 77)), LIMITS)[0, 0].tolist() == [77, 77, 77]
    cmyk = decode_image(image_file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), LIMITS)
    assert cmyk[0, 0].tolist() == [255, 0, 0]


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    decoded = decode_image(image_file(frames[0], "GIF", save_all=True, append_images=frames[1:]), LIMITS)
    assert decoded.shape == (4, 4, 3)
    assert decoded[0, 0].tolist() == [255, 0, 0]


def test_small_and_long_pictures_decode() -> None:
    assert decode_image(image_file(pixels(1, 1)), LIMITS).shape == (1, 1, 3)
    assert decode_image(image_file(pixels(1, 10_000)), LIMITS).shape == (1, 10_000, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no picture in a known format .*: it is empty"),
        (b"hello", "no picture in a known format"),
        (b"\n<!DOCTYPE html><p>", "it is an HTML page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no picture in a known format"),
        (image_file()[:-40], "it is damaged"),
        (image_file(form="JPEG")[:300], "it is damaged"),
        (image_file()[:60] + bytes(300), "it is damaged"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        decode_image(data, LIMITS)
    assert caught.value.status_code == 400


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(RequestError, match="2000x1000 pixels; at most 1000000 are taken"):
        decode_image(png_of_size(2_000, 1_000), LIMITS)
    with pytest.raises(RequestError, match="too many pixels; at most 1000000 are taken") as caught:
        decode_image(png_of_size(20_000, 10_000), LIMITS)
    assert caught.value.code == "media_too_large"
