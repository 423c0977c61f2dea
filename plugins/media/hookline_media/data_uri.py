"""DataLoader: media that stand in the request itself."""

from __future__ import annotations

import asyncio
import base64
import binascii
from urllib.parse import unquote_to_bytes

from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoader

#: URIs up to so many characters are decoded on the loop.
_INLINE_CHARS = 64 * 1024


class DataLoader(MediaLoader):
    """``data:[type][;base64],...``. The declared type is not looked at: the bytes say what they are."""

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        head, comma, body = ref.partition(",")
        if not comma:
            raise RequestError("its data: URI has no comma between its type and its data")
        is_base64 = head.rstrip().lower().endswith(";base64")
        size = len(body.rstrip("=")) * 3 // 4 if is_base64 else len(body) // 3
        if size > limits.max_bytes:
            raise RequestError(
                f"it has about {size} bytes; at most {limits.max_bytes} are taken", code="media_too_large"
            )
        if not is_base64:
            data = unquote_to_bytes(body)
            if len(data) > limits.max_bytes:
                raise RequestError(
                    f"it has {len(data)} bytes; at most {limits.max_bytes} are taken", code="media_too_large"
                )
            return data
        if len(body) <= _INLINE_CHARS:
            return _decode(body)
        return await asyncio.to_thread(_decode, body)


def _decode(body: str) -> bytes:
    # Some clients break lines, write the alphabet of URLs, or leave out the padding.
    text = "".join(body.split()).replace("-", "+").replace("_", "/").replace("%3D", "=").rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise RequestError(f"its data: URI is not valid base64: {exc}") from exc
    if not data:
        raise RequestError("its data: URI is empty")
    return data
