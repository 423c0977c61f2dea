"""Pictures and clips in one process: whatever a Python caller has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hookline import Engine
from hookline.errors import RequestError
from tests.factories.pictures import image_file, video_file

PLACE = "<|vision_start|><|image_pad|><|vision_end|>"
QUESTION = "What colour is the circle?"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(check_ledger=True, media_pool_gib=0.001, max_image_megapixels=0.1) as engine:
        yield engine


def _disc(colour: str) -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).ellipse((40, 40, 90, 90), fill=colour)
    return image


def _chat(engine: Engine, *parts: Any) -> str:
    messages = [{"role": "user", "content": list(parts)}]
    return engine.chat(
        messages, {"temperature": 0, "max_new_tokens": 40}, chat_template_kwargs={"enable_thinking": False}
    ).text


def test_sources_of_all_kinds(engine: Engine, tmp_path: Path) -> None:
    file = image_file(_disc("green"))
    (tmp_path / "green.png").write_bytes(file)
    sources = [_disc("green"), np.asarray(_disc("green")), file, tmp_path / "green.png", str(tmp_path / "green.png")]
    transparent = _disc("green").convert("RGBA")
    for source in [*sources, transparent]:
        assert _chat(engine, {"type": "image", "image": source}, QUESTION) == "The circle is green."


def test_generate_with_pictures_beside_the_prompt(engine: Engine) -> None:
    prompt = f"<|im_start|>user\n{PLACE}{QUESTION}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    params = {"temperature": 0, "max_new_tokens": 12}
    (one,) = engine.generate(prompt, params, images=[_disc("red")])
    assert one.text == "The circle is red."
    many = engine.generate([prompt, prompt], params, images=[[_disc("red")], [_disc("blue")]])
    assert [output.text for output in many] == ["The circle is red.", "The circle is blue."]
    assert "".join(chunk.text for chunk in engine.stream(prompt, params, images=_disc("black"))) == (
        "The circle is black."
    )


def test_clips_and_frames(engine: Engine) -> None:
    frames = np.full((4, 96, 96, 3), 255, np.uint8)
    for step in range(4):
        frames[step, 30:60, 5 + 20 * step : 35 + 20 * step] = (220, 20, 20)
    question = "Which way does the shape move?"
    for video in (list(frames), video_file(list(frames), fps=2)):
        assert "right" in _chat(engine, {"type": "video", "video": video}, question)


def test_media_of_earlier_turns(engine: Engine) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image", "image": _disc("purple")}, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": "The circle is purple."},
        {"role": "user", "content": QUESTION},
    ]
    answer = engine.chat(messages, {"temperature": 0}, chat_template_kwargs={"enable_thinking": False})
    assert "purple" in answer.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Image.new("RGB", (400, 1)), "one side may be at most 200 times"),
        (np.zeros((4, 4)), "must be an array .* of uint8"),
        (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
        (3, "must be a PIL picture, an array, bytes, a path or a URL, not int"),
        ("/no/such/file.png", "cannot be read"),
        (b"hello", "it is no picture"),
        ("http://127.0.0.1:9/", "not public"),
    ],
)
def test_bad_sources_are_named(engine: Engine, source: Any, message: str) -> None:
    with pytest.raises(RequestError, match=rf"messages\[0\]\.content\[0\].*{message}"):
        _chat(engine, {"type": "image", "image": source}, QUESTION)


def test_what_does_not_fit_is_refused_and_leaves_nothing(engine: Engine) -> None:
    prompt = f"{PLACE}x"
    pictures = [np.full((192, 192, 3), i, np.uint8) for i in range(12)]
    with pytest.raises(RequestError, match=r"images\[9\]: there is no room"):
        engine.generate([PLACE * 12], images=[pictures])
    with pytest.raises(RequestError, match="there must be one for each"):
        engine.generate(prompt, images=pictures[:2])
    with pytest.raises(RequestError, match="images must be a list with an entry for each of 2 prompts"):
        engine.generate([prompt, prompt], images=pictures[:1])
    for picture in pictures:
        engine.generate(prompt, {"max_new_tokens": 1}, images=picture)


def test_a_model_that_takes_text_only(checkpoint: Callable[[str], Path]) -> None:
    with Engine(checkpoint("qwen3"), dtype="float32") as engine:
        with pytest.raises(RequestError, match=r"images\[0\]: this model takes text only"):
            engine.generate("x", images=_disc("red"))
        with pytest.raises(RequestError, match="takes text only"):
            _chat(engine, {"type": "image", "image": _disc("red")})
