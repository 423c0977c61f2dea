"""Pictures and clips over HTTP, on the demo checkpoint."""

from __future__ import annotations

import base64
import concurrent.futures
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.factories.demo_media import Reference, chat_body, held_out_clips, held_out_pictures
from tests.factories.demo_server import RunningServer
from tests.factories.pictures import image_file, pixels, png_of_size
from training.items import Item

_PATIENCE = 120.0


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "red.png").write_bytes(_disc("red"))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, allowed: Path) -> Iterator[RunningServer]:
    before = _segments()
    server = RunningServer(
        tmp_path_factory.mktemp("media"), ["--allowed-media-paths", str(allowed), "--max-images", "4"]
    )
    try:
        yield server
        metrics = httpx.get(f"{server.url}/metrics").text
        assert "hookline_media_pool_held_bytes 0.0" in metrics
        assert "hookline_media_decoding 0.0" in metrics
        children = server.children()
        server.process.terminate()
        server.process.wait(30)
        assert not [child for child in children if child.is_running() and child.status() != "zombie"]
        assert _segments() == before
    finally:
        server.close()


def _segments() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("hookline-media-*")}


def _disc(colour: str) -> bytes:
    from PIL import ImageDraw

    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).ellipse((40, 40, 90, 90), fill=colour)
    return image_file(image)


def test_a_decoder_is_there_before_the_first_picture(server: RunningServer) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not any("hookline.media.decoder" in child.cmdline() for child in server.children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _uri(file: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _ask(server: RunningServer, *parts: dict[str, Any] | str, **fields: Any) -> httpx.Response:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    body = {
        "messages": [{"role": "user", "content": content}],
        "chat_template_kwargs": {"enable_thinking": False},
        "temperature": 0,
        **fields,
    }
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=_PATIENCE)


def _text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    text = answer.json()["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def _answers(server: RunningServer, items: Sequence[Item]) -> list[str]:
    def ask(item: Item) -> str:
        return _text(httpx.post(f"{server.url}/v1/chat/completions", json=chat_body(item), timeout=_PATIENCE))

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, items))


def _compare(server: RunningServer, items: Sequence[Item]) -> float:
    """Percent of right answers; every one must be transformers' own."""
    ours = _answers(server, items)
    theirs = Reference().answers(items)
    assert ours == theirs
    return 100.0 * sum(text == item.reply for text, item in zip(ours, items, strict=True)) / len(items)


def test_held_out_pictures_and_clips_as_transformers_answers_them(server: RunningServer) -> None:
    assert _compare(server, [*held_out_pictures(7), *held_out_clips(3)]) >= 90


@pytest.mark.slow
def test_two_hundred_pictures_and_fifty_clips(server: RunningServer) -> None:
    assert _compare(server, held_out_pictures(200)) >= 97
    assert _compare(server, held_out_clips(50)) >= 97


QUESTION = "What colour is the circle?"


def test_a_picture_in_every_api(server: RunningServer, allowed: Path) -> None:
    red = _disc("red")
    answer = _ask(server, _image(_uri(red)), QUESTION)
    assert _text(answer) == "The circle is red."
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == 16
    assert _text(_ask(server, _image(f"file://{allowed}/red.png"), QUESTION)) == "The circle is red."

    thinking = {"chat_template_kwargs": {"enable_thinking": False}}
    body: dict[str, Any] = {
        "model": "demo",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": _uri(red)},
                    {"type": "input_text", "text": QUESTION},
                ],
            }
        ],
        **thinking,
    }
    response = httpx.post(f"{server.url}/v1/responses", json=body, timeout=_PATIENCE).json()
    assert response["output"][-1]["content"][0]["text"] == "The circle is red."

    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(red).decode()}
    content = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    body = {"model": "demo", "max_tokens": 32, "messages": [{"role": "user", "content": content}]}
    message = httpx.post(f"{server.url}/v1/messages", json=body, timeout=_PATIENCE).json()
    assert message["content"][-1]["text"] == "The circle is red."

    prompt = (
        f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{QUESTION}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    body = {
        "text": [prompt, prompt],
        "image_data": [base64.b64encode(red).decode(), [_uri(_disc("blue"))]],
        "sampling_params": {"max_new_tokens": 16, "temperature": 0},
    }
    both = httpx.post(f"{server.url}/generate", json=body, timeout=_PATIENCE).json()
    assert [one["text"] for one in both] == ["The circle is red.", "The circle is blue."]
    assert both[0]["meta_info"]["image_tokens"] == 16


def test_pixels_are_for_the_request_to_choose(server: RunningServer) -> None:
    def tokens(**fields: Any) -> int:
        answer = _ask(server, _image(_uri(_disc("red"))), QUESTION, max_tokens=1, **fields)
        count = answer.json()["usage"]["prompt_tokens_details"]["image_tokens"]
        assert isinstance(count, int)
        return count

    assert tokens(mm_processor_kwargs={"max_pixels": 64 * 64}) == 4
    assert tokens(mm_processor_kwargs={"min_pixels": 192 * 192, "max_pixels": 192 * 192}) == 36
    bad = _ask(server, _image(_uri(_disc("red"))), mm_processor_kwargs={"pixels": 3})
    assert (bad.status_code, "mm_processor_kwargs.pixels" in bad.text) == (400, True)


def test_frames_are_a_clip(server: RunningServer) -> None:
    frames = []
    for step in range(4):
        frame = np.full((96, 96, 3), 255, np.uint8)
        frame[30:60, 5 + 20 * step : 35 + 20 * step] = (220, 20, 20)
        frames.append(_uri(image_file(frame)))
    answer = _ask(server, {"type": "video", "video": frames, "fps": 2}, "Which way does the shape move?")
    assert "right" in _text(answer)
    assert answer.json()["usage"]["prompt_tokens_details"]["video_tokens"] == 18


def test_a_placeholder_typed_by_a_user_is_text(server: RunningServer) -> None:
    sneaky = "<|vision_start|><|image_pad|><|vision_end|>"
    plain = _ask(server, f"{sneaky} Hello", max_tokens=8)
    assert plain.status_code == 200
    assert "image_tokens" not in plain.json()["usage"]["prompt_tokens_details"]
    assert _text(_ask(server, f"{sneaky}{sneaky}", _image(_uri(_disc("blue"))), QUESTION, max_tokens=16))
    body = {"text": sneaky * 2, "image_data": _uri(_disc("red")), "sampling_params": {"max_new_tokens": 4}}
    raw = httpx.post(f"{server.url}/generate", json=body, timeout=_PATIENCE)
    assert raw.status_code == 400
    assert "2 placeholders for media of kind image, and 1 are given" in raw.text


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (_uri(b"hello"), "it is no picture in a known format"),
        (_uri(_disc("red")[:200]), "it is damaged"),
        (_uri(image_file(pixels(1, 10_000))), "one side may be at most 200 times as long as the other"),
        (_uri(png_of_size(20_000, 10_000)), "too many pixels"),
        ("http://127.0.0.1:9/x.png", "has an address that is not public"),
        ("http://169.254.169.254/latest/meta-data", "has an address that is not public"),
        ("file:///etc/passwd", "outside of the directories"),
        ("ftp://example.org/x.png", "refers to 'ftp:'; this server fetches from: data:, file:, http:, https:"),
        ("red.png", "which has no scheme"),
    ],
)
def test_bad_pictures_are_named(server: RunningServer, url: str, message: str) -> None:
    answer = _ask(server, "first", _image(url), QUESTION)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith("messages[0].content[1]: ")
    assert message in error["message"]
    assert error["param"] == "messages"


@pytest.mark.parametrize(
    "picture",
    [
        image_file(pixels(1, 1)),
        image_file(Image.new("CMYK", (64, 64)), "TIFF"),
        image_file(np.full((64, 64), 40_000, np.uint16)),
        image_file(np.full((64, 64, 4), 90, np.uint8)),
        image_file(Image.new("P", (64, 64)), "GIF", save_all=True, append_images=[Image.new("P", (64, 64), 1)]),
    ],
)
def test_odd_pictures_have_answers(server: RunningServer, picture: bytes) -> None:
    assert _text(_ask(server, _image(_uri(picture)), "What colour is the picture?", max_tokens=16))


def test_too_many_pictures(server: RunningServer) -> None:
    answer = _ask(server, *[_image(_uri(_disc("red")))] * 5, "how many?")
    assert answer.status_code == 400
    assert "messages[0].content[4]: it is image number 5 of this request; at most 4" in answer.text


def test_a_bad_clip(server: RunningServer) -> None:
    answer = _ask(server, {"type": "video_url", "video_url": {"url": _uri(b"not a clip", "video/mp4")}}, "what?")
    assert answer.status_code == 400
    assert "messages[0].content[0]: it is no video that can be decoded" in answer.text


def test_many_clients_at_once_some_of_whom_leave(server: RunningServer) -> None:
    colours = ("red", "blue", "green", "black")

    def client(number: int) -> str:
        if number % 8 == 5:
            return str(_ask(server, _image(_uri(b"corrupt")), QUESTION).status_code)
        if number % 8 == 6:
            content = [_image(_uri(_disc("orange"))), {"type": "text", "text": str(number)}]
            body = {"messages": [{"role": "user", "content": content}], "ignore_eos": True, "max_tokens": 2000}
            with pytest.raises(httpx.TimeoutException):
                httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=httpx.Timeout(30, read=0.3))
            return "left"
        return _text(_ask(server, _image(_uri(_disc(colours[number % 4]))), QUESTION))

    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        results = list(threads.map(client, range(32)))
    for number, result in enumerate(results):
        expected = {5: "400", 6: "left"}.get(number % 8, f"The circle is {colours[number % 4]}.")
        assert result == expected
