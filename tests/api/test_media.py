"""Media in every API: which engine requests become of them, and what usages tell."""

from __future__ import annotations

from typing import Any

import pytest

from hookline.interfaces.multimodal import MediaParams
from hookline.testkit.fake_serving import FakeServing
from hookline.testkit.in_process import http
from tests.factories.fake_serving import make_app

URL = "https://example.org/a.png"
KINDS = {"image": "<image>", "video": "<video>"}


async def _post(path: str, body: dict[str, Any], status: int = 200, *, kinds: dict[str, str] = KINDS) -> Any:
    serving = FakeServing(placeholders=kinds)
    async with http(make_app(serving)) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return serving if status == 200 else answer.json()


def _chat(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}], **fields}


async def test_chat_media_come_in_the_order_of_their_parts() -> None:
    body = _chat(
        {"type": "image_url", "image_url": {"url": "data:,1"}},
        {"type": "text", "text": "and"},
        {"type": "video_url", "video_url": {"url": "data:,2", "num_frames": 4}},
        {"type": "video", "video": ["data:,3", "data:,4"], "fps": 2},
        mm_processor_kwargs={"max_pixels": 900, "size": {"shortest_edge": 100}},
    )
    serving = await _post("/v1/chat/completions", body)
    (request,) = serving.requests
    assert [(one.kind, one.source, one.fps) for one in request.media] == [
        ("image", "data:,1", None),
        ("video", "data:,2", None),
        ("video", ["data:,3", "data:,4"], 2),
    ]
    assert [one.params for one in request.media] == [
        MediaParams(min_pixels=100, max_pixels=900),
        MediaParams(min_pixels=100, max_pixels=900, num_frames=4),
        MediaParams(min_pixels=100, max_pixels=900),
    ]
    assert bytes(request.input_ids).decode() == "<user><image> and <video> <video>\n<assistant>"


async def test_responses() -> None:
    image = {"type": "input_image", "image_url": URL, "detail": "low"}
    body = {
        "model": "fake-model",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "see"}, image]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [image]},
        ],
        "mm_processor_kwargs": {"min_pixels": 5},
    }
    serving = await _post("/v1/responses", body)
    (request,) = serving.requests
    assert [one.where for one in request.media] == ["input[0].content[1]", "input[2].output[0]"]
    assert {(one.kind, one.source, one.params.max_pixels, one.params.min_pixels) for one in request.media} == {
        ("image", URL, 512 * 512, 5)
    }


async def test_anthropic() -> None:
    inline = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    linked = {"type": "image", "source": {"type": "url", "url": URL}}
    body = {
        "model": "fake-model",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": [inline, {"type": "text", "text": "what?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [linked]}, linked]},
        ],
    }
    serving = await _post("/v1/messages", body)
    (request,) = serving.requests
    assert [(one.source, one.where) for one in request.media] == [
        ("data:image/png;base64,QUJD", "messages[0].content[0]"),
        (URL, "messages[2].content[0].content[0]"),
        (URL, "messages[2].content[1]"),
    ]


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("a", URL, [[URL]]),
        ("a", [URL, {"url": "data:,2"}], [[URL, "data:,2"]]),
        ("a", "QUJD", [["data:;base64,QUJD"]]),
        (["a", "b"], [URL, ["QUJD", URL]], [[URL], ["data:;base64,QUJD", URL]]),
        (["a", "b"], [None, URL], [[], [URL]]),
        (["a"], [[URL, URL]], [[URL, URL]]),
    ],
)
async def test_generate(text: Any, data: Any, expected: list[list[str]]) -> None:
    serving = await _post("/generate", {"text": text, "image_data": data, "mm_processor_kwargs": {"max_pixels": 7}})
    assert [[one.source for one in request.media] for request in serving.requests] == expected
    assert all(one.params.max_pixels == 7 for request in serving.requests for one in request.media)


async def test_generate_with_frames() -> None:
    body = {"text": "a", "video_data": ["data:,1", ["data:,2", "QUJD"]], "image_data": URL}
    serving = await _post("/generate", body)
    assert [(one.kind, one.source, one.where) for one in serving.requests[0].media] == [
        ("image", URL, "image_data"),
        ("video", "data:,1", "video_data[0]"),
        ("video", ["data:,2", "data:;base64,QUJD"], "video_data[1]"),
    ]


async def test_usages_tell_the_tokens_of_media() -> None:
    image, video = {"type": "image", "image": URL}, {"type": "video", "video": URL}
    wanted = [
        ("/v1/chat/completions", _chat(image, image, video), ("usage", "prompt_tokens_details")),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}] * 2}]},
            ("usage", "input_tokens_details"),
        ),
        ("/generate", {"text": "a", "image_data": [URL, URL]}, ("meta_info",)),
    ]
    for path, body, keys in wanted:
        async with http(make_app(FakeServing(placeholders=KINDS))) as client:
            answer = (await client.post(path, json=body)).json()
        for key in keys:
            answer = answer[key]
        assert answer["image_tokens"] == 2, path
        assert answer.get("video_tokens") == (1 if path == "/v1/chat/completions" else None)


IMAGE_PART = {"type": "image_url", "image_url": {"url": URL}}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", _chat(IMAGE_PART, mm_processor_kwargs={"pixels": 1}), "mm_processor_kwargs.pixels"),
        ("/v1/chat/completions", _chat(IMAGE_PART, mm_processor_kwargs={"size": 1}), "size must be an object"),
        ("/v1/chat/completions", _chat({"type": "image_url"}), "messages[0].content[0] is of type"),
        ("/v1/chat/completions", _chat({"type": "input_audio", "input_audio": {}}), "takes text and image and video"),
        (
            "/v1/responses",
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id is not supported",
        ),
        (
            "/v1/responses",
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].image_url must be a string",
        ),
        (
            "/v1/responses",
            {"model": "m", "input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": URL}]}]},
            "input[0].content[0] must be text",
        ),
        (
            "/v1/messages",
            {
                "model": "m",
                "max_tokens": 1,
                "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}],
            },
            "messages[0].content[0].source must be of type 'base64' or 'url'",
        ),
        ("/generate", {"text": "a", "image_data": 5}, "image_data must be a URL or base64, not 5"),
        ("/generate", {"text": ["a", "b"], "image_data": [URL]}, "image_data must be a list of 2 entries"),
        ("/generate", {"text": "a", "video_data": [["data:,1", 2]]}, "video_data[0][1] must be a URL or base64"),
    ],
)
async def test_malformed_media(path: str, body: dict[str, Any], message: str) -> None:
    body = {**body, **({"model": "fake-model"} if "model" in body else {})}
    assert message in str(await _post(path, body, 400))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", _chat(IMAGE_PART)),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]}),
        (
            "/v1/messages",
            {
                "model": "fake-model",
                "max_tokens": 1,
                "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": URL}}]}],
            },
        ),
    ],
)
async def test_a_model_that_takes_text_only_says_so(path: str, body: dict[str, Any]) -> None:
    assert "takes text only" in str(await _post(path, body, 400, kinds={}))
