"""Media parts of messages, in everybody's spelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hookline.errors import RequestError
from hookline.frontend.chat_template import ChatTemplate
from hookline.frontend.media_parts import take_media
from hookline.interfaces.multimodal import MediaParams

PLACES = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
URL = "https://x/y"


def _take(*parts: Any, **more: Any) -> tuple[list[Any], list[Any]]:
    return take_media([{"role": "user", "content": list(parts)}], more.pop("places", PLACES), **more)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image_url", "image_url": URL},
        {"type": "image_url", "image_url": {"url": URL, "detail": "high"}},
        {"type": "input_image", "image_url": URL, "detail": "auto"},
        {"type": "image", "image": URL},
        {"type": "image", "url": URL},
        {"type": "image", "image_url": {"url": URL}},
    ],
)
def test_pictures(part: dict[str, Any]) -> None:
    (message,), (medium,) = _take({"type": "text", "text": "see"}, part)
    assert message["content"] == [{"type": "text", "text": "see"}, {"type": "image"}]
    assert (medium.kind, medium.source, medium.params) == ("image", URL, MediaParams())
    assert medium.where == "messages[0].content[1]"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": URL}},
        {"type": "video_url", "video_url": URL},
        {"type": "video", "video": URL},
        {"type": "input_video", "video_url": URL},
    ],
)
def test_videos(part: dict[str, Any]) -> None:
    _, (medium,) = _take(part)
    assert (medium.kind, medium.source, medium.fps) == ("video", URL, None)


def test_frames() -> None:
    _, (listed, written) = _take(
        {"type": "video", "video": ["a:1", "a:2"], "fps": 2},
        {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,QQ==,Qg=="}},
    )
    assert (listed.source, listed.fps, listed.params) == (["a:1", "a:2"], 2, MediaParams())
    assert written.source == ["data:image/jpeg;base64,QQ==", "data:image/jpeg;base64,Qg=="]


def test_parameters_of_a_part_win_over_those_of_the_request() -> None:
    defaults = MediaParams(min_pixels=1, max_pixels=100, fps=3.0)
    _, media = _take(
        {"type": "image_url", "image_url": {"url": URL, "max_pixels": 50}},
        {"type": "image_url", "image_url": {"url": URL}, "min_pixels": 7},
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "video", "video": URL, "nframes": 4},
        {"type": "video", "video": URL, "fps": 1},
        defaults=defaults,
    )
    assert [one.params for one in media] == [
        MediaParams(min_pixels=1, max_pixels=50, fps=3.0),
        MediaParams(min_pixels=7, max_pixels=100, fps=3.0),
        MediaParams(min_pixels=1, max_pixels=512 * 512, fps=3.0),
        MediaParams(min_pixels=1, max_pixels=100, num_frames=4),
        MediaParams(min_pixels=1, max_pixels=100, fps=1),
    ]


def test_media_of_all_turns_in_their_order() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "image", "image": "a:1"}, "text", {"type": "video", "video": "a:2"}]},
        {"role": "assistant", "content": "ok", "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "and"}, {"type": "image", "image": "a:3"}]},
    ]
    taken, media = take_media(messages, PLACES)
    assert [one.source for one in media] == ["a:1", "a:2", "a:3"]
    assert [one.where for one in media] == [
        "messages[1].content[0]",
        "messages[1].content[2]",
        "messages[3].content[1]",
    ]
    assert taken[0] == messages[0]
    # The request's own objects stay as they were.
    assert messages[1]["content"][0] == {"type": "image", "image": "a:1"}


def test_a_placeholder_in_a_text_stands_for_nothing() -> None:
    sneaky = "look: <|image_pad|><|video_pad|>"
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": sneaky, "name": "<|image_pad|>"},
        {"role": "user", "content": [{"type": "text", "text": sneaky}, sneaky]},
        {"role": "tool", "content": [{"type": "text", "text": sneaky}]},
    ]
    taken, media = take_media(messages, PLACES)
    assert media == []
    assert "<|image_pad|>" not in str(taken)
    assert "<|video_pad|>" not in str(taken)
    assert taken[0]["content"] == "look: < |image_pad|>< |video_pad|>"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image_url"}, r"messages\[0\]\.content\[0\] is of type 'image_url' and has no 'image_url'"),
        ({"type": "image_url", "image_url": {}}, r"image_url must have a url"),
        ({"type": "image_url", "image_url": 3}, r"content\[0\]\.image_url must be a URL, not 3"),
        ({"type": "image_url", "image_url": {"url": ""}}, "must be a URL"),
        ({"type": "image_url", "image_url": {"url": URL, "detail": "huge"}}, "detail must be one of auto, low"),
        ({"type": "video", "video": ["a:1", 5]}, "must be a URL, not 5"),
        ({"type": "image", "image": ["a:1"]}, "must be a URL"),
    ],
)
def test_malformed_parts_are_named(part: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        _take(part)


def test_an_api_may_name_places_its_own_way() -> None:
    _, (medium,) = _take({"type": "image_url", "image_url": URL, "place": "input[3].content[0]"})
    assert medium.where == "input[3].content[0]"


def test_kinds_that_the_model_does_not_take_stay_parts() -> None:
    (message,), media = _take({"type": "video", "video": URL}, places={"image": "<i>"})
    assert media == []
    assert message["content"] == [{"type": "video", "video": URL}]


def test_callers_in_this_process_may_give_pixels() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    _, media = _take(
        {"type": "image", "image": picture},
        {"type": "video", "video": [picture, picture]},
        to_source=lambda value: value,
    )
    assert media[0].source is picture
    assert media[1].source == [picture, picture]


# --- through templates ---

_PARTS = ChatTemplate(
    "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% else %}[{{ p.type }}]"
    "{% endif %}{% endfor %}{% endfor %}",
    name="parts",
)
_STRINGS = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", name="strings")


def test_templates_see_parts_or_placeholders() -> None:
    (message,), _ = _take({"type": "image", "image": URL}, {"type": "text", "text": "what?"})
    assert _PARTS.render([message], placeholders=PLACES) == "[image]what?"
    assert _STRINGS.render([message], placeholders=PLACES) == "<|image_pad|> what?"


def test_without_placeholders_media_are_refused() -> None:
    with pytest.raises(RequestError, match="takes text only") as caught:
        _STRINGS.render([{"role": "user", "content": [{"type": "image_url", "image_url": URL}]}])
    assert caught.value.code == "unsupported_content"
