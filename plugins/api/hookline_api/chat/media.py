"""Media of chats: their processing as clients ask for it, and their tokens as usages tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaParams

#: A request's names of parameters -> ours. Numbers are checked where the media are.
_NAMES = {
    "min_pixels": "min_pixels",
    "max_pixels": "max_pixels",
    "fps": "fps",
    "num_frames": "num_frames",
    "nframes": "num_frames",
}


def read_media_params(values: Mapping[str, Any] | None, *, field: str = "mm_processor_kwargs") -> MediaParams | None:
    """Of a whole request. Raises ``RequestError`` for fields that are not known."""
    if values is None:
        return None
    values = dict(values)
    size = values.pop("size", {})
    if not isinstance(size, Mapping):
        raise RequestError(f"{field}.size must be an object, not {size!r:.80}", param=field)
    # transformers' words for the same limits.
    for ours, theirs in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if size.get(theirs) is not None:
            values.setdefault(ours, size[theirs])
    unknown = sorted(set(values) - set(_NAMES))
    if unknown:
        raise RequestError(f"unknown field '{field}.{unknown[0]}' (known: {', '.join(_NAMES)}, size)", param=field)
    return MediaParams(**{_NAMES[name]: value for name, value in values.items()})


def media_details(media_tokens: Mapping[str, int]) -> dict[str, int]:
    """The tokens of a prompt that are media, as usages name them: {"image_tokens": 64}."""
    return {f"{kind}_tokens": count for kind, count in media_tokens.items()}
