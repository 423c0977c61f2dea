"""Media parts of messages, taken out of them; what is left tells the chat template where they stand.

Taken as users of OpenAI, vLLM, SGLang and Qwen write them:

    {"type": "image_url", "image_url": {"url": ..., "detail": "auto"}}     {"type": "image", "image": ...}
    {"type": "input_image", "image_url": "..."}                            {"type": "video", "video": ..., "fps": 2}
    {"type": "video_url", "video_url": {"url": ...}}                       {"type": "video", "video": [frame, ...]}

An API family whose clients write something else adds "place" to a part: what errors call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.multimodal import IMAGE, NO_PARAMS, VIDEO, MediaInput, MediaParams

#: Type of a part -> kind, and the keys under which its source may stand.
_PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "image_url": (IMAGE, ("image_url", "url")),
    "input_image": (IMAGE, ("image_url", "image")),
    "image": (IMAGE, ("image", "image_url", "url")),
    "video_url": (VIDEO, ("video_url", "url")),
    "input_video": (VIDEO, ("video_url", "video")),
    "video": (VIDEO, ("video", "video_url", "url")),
}
#: Names of processing parameters, ours and others'.
_PARAM_NAMES = {**{field.name: field.name for field in fields(MediaParams)}, "nframes": "num_frames"}
#: OpenAI's wish for a cheap picture.
_LOW_DETAIL_PIXELS = 512 * 512
_DETAILS = ("auto", "low", "high", "original")
#: vLLM's way to write frames into one URI: "data:video/jpeg;base64,FRAME,FRAME".
_FRAMES_URI = "data:video/jpeg;base64,"

#: Makes what a caller may write (a path, a PIL picture) what ``MediaInput.source`` takes; refuses the rest.
ToSource = Callable[[Any], Any]


def take_media(
    messages: Sequence[Mapping[str, Any]],
    placeholders: Mapping[str, str],
    *,
    defaults: MediaParams = NO_PARAMS,
    to_source: ToSource | None = None,
) -> tuple[list[Any], list[MediaInput]]:
    """Messages whose media parts are ``{"type": kind}`` alone, and the media in the order of their parts.

    ``placeholders`` are the kinds that the model takes, with their texts; parts of other kinds stay as they are. Such
    a text in a message stays text: a space breaks it up, so that it stands for no medium. ``defaults`` hold where a
    part does not say. Raises ``RequestError`` naming the part at fault.
    """
    media: list[MediaInput] = []
    taken: list[Any] = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            taken.append(message)
            continue
        changed = {key: break_up(value, placeholders) for key, value in message.items() if key != "content"}
        content = message.get("content")
        if isinstance(content, (list, tuple)):
            parts = []
            for j, part in enumerate(content):
                place = _place(part) or f"messages[{i}].content[{j}]"
                one = _medium(part, place, placeholders, defaults, to_source or reference)
                if one is None:
                    parts.append(break_up(part, placeholders))
                else:
                    media.append(one)
                    parts.append({"type": one.kind})
            changed["content"] = parts
        elif "content" in message:
            changed["content"] = break_up(content, placeholders)
        taken.append(changed)
    return taken, media


def break_up(value: Any, placeholders: Mapping[str, str]) -> Any:
    """``value`` with a space inside of every placeholder in its texts."""
    if isinstance(value, str):
        for text in placeholders.values():
            if text in value:
                value = value.replace(text, f"{text[:1]} {text[1:]}")
        return value
    if isinstance(value, Mapping):
        return {key: break_up(item, placeholders) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [break_up(item, placeholders) for item in value]
    return value


def reference(source: Any) -> str:
    """Clients of a server may write references alone."""
    if not isinstance(source, str) or not source:
        raise RequestError(f"must be a URL, not {source!r:.40}")
    return source


def _place(part: Any) -> str:
    place = part.get("place") if isinstance(part, Mapping) else None
    return place if isinstance(place, str) else ""


def _medium(
    part: Any, where: str, placeholders: Mapping[str, str], defaults: MediaParams, to_source: ToSource
) -> MediaInput | None:
    """The medium of a part; ``None`` for a part that is none, or none that the model takes."""
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str) or part["type"] not in _PARTS:
        return None
    kind, keys = _PARTS[part["type"]]
    if kind not in placeholders:
        return None
    key = next((key for key in keys if part.get(key) is not None), None)
    if key is None:
        raise RequestError(f"{where} is of type '{part['type']}' and has no '{keys[0]}'", param="messages")
    source, options = part[key], dict(part)
    if isinstance(source, Mapping):
        options |= source
        if source.get("url") is None:
            raise RequestError(f"{where}.{key} must have a url", param="messages")
        source = source["url"]
    source = _source(kind, source, f"{where}.{key}", to_source)
    params, fps = _params(options, where, defaults, has_frames=isinstance(source, list))
    return MediaInput(kind=kind, source=source, params=params, fps=fps, where=where)


def _source(kind: str, source: Any, where: str, to_source: ToSource) -> Any:
    if kind == VIDEO and isinstance(source, str) and source.startswith(_FRAMES_URI):
        source = [f"data:image/jpeg;base64,{frame}" for frame in source[len(_FRAMES_URI) :].split(",")]
    try:
        if kind == VIDEO and isinstance(source, (list, tuple)):
            return [to_source(frame) for frame in source]
        return to_source(source)
    except RequestError as exc:
        raise RequestError(f"{where} {exc.message}", param=where.partition("[")[0], code=exc.code) from exc


def _params(
    options: Mapping[str, Any], where: str, defaults: MediaParams, *, has_frames: bool
) -> tuple[MediaParams, float | None]:
    """Of a part; and the frames a second of a list of frames, which are all taken."""
    given = {name: options[key] for key, name in _PARAM_NAMES.items() if options.get(key) is not None}
    detail = options.get("detail")
    if detail is not None and detail not in _DETAILS:
        raise RequestError(f"{where}.detail must be one of {', '.join(_DETAILS)}, not {detail!r:.40}", param="messages")
    if detail == "low":
        given.setdefault("max_pixels", _LOW_DETAIL_PIXELS)
    if has_frames:
        return replace(defaults, **{**given, "fps": None, "num_frames": None}), given.get("fps")
    if "fps" in given and "num_frames" not in given:
        given["num_frames"] = None
    if "num_frames" in given and "fps" not in given:
        given["fps"] = None
    return replace(defaults, **given), None
