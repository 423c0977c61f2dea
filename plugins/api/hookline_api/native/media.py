"""Media beside the prompts of ``/generate``: ``image_data`` and ``video_data``, as SGLang's clients write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.multimodal import IMAGE, NO_PARAMS, VIDEO, MediaInput
from hookline_api.chat.media import read_media_params
from hookline_api.native.bodies import GenerateBody

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}:")


def prompt_media(body: GenerateBody, index: int, count: int | None) -> list[MediaInput]:
    """The media of prompt ``index`` of ``count``, pictures first; ``count`` is ``None`` for a body with one prompt.

    Raises ``RequestError`` for values that are no media.
    """
    params = read_media_params(body.mm_processor_kwargs) or NO_PARAMS
    media = []
    for field, kind in (("image_data", IMAGE), ("video_data", VIDEO)):
        value = getattr(body, field)
        where = field
        if count is not None and value is not None:
            if not isinstance(value, list) or len(value) != count:
                raise RequestError(f"{field} must be a list of {count} entries, one for each prompt", param=field)
            value, where = value[index], f"{field}[{index}]"
        for place, source in _sources(kind, value, where):
            media.append(MediaInput(kind=kind, source=source, params=params, where=place))
    return media


def _sources(kind: str, value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """(place, source) of each medium."""
    if value is None:
        return
    if not isinstance(value, list):
        yield where, _reference(value, where)
        return
    for number, source in enumerate(value):
        place = f"{where}[{number}]"
        if kind == VIDEO and isinstance(source, list):
            yield place, [_reference(frame, f"{place}[{i}]") for i, frame in enumerate(source)]
        else:
            yield place, _reference(source, place)


def _reference(value: Any, where: str) -> str:
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        value = value["url"]
    if not isinstance(value, str) or not value:
        raise RequestError(f"{where} must be a URL or base64, not {value!r:.40}", param=where.partition("[")[0])
    return value if _HAS_SCHEME.match(value) else f"data:;base64,{value}"
