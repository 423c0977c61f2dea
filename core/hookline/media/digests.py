"""Digests: what names a medium, computed from its bytes and the processing before anything is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hookline.media.decoding import Blob


def medium_digest(
    kind: str, blobs: Sequence[Blob], processing_key: bytes, *, is_frames: bool = False, fps: float | None = None
) -> bytes:
    """32 bytes: SHA-256 over all that decides what becomes of the medium, each part with its length in front."""
    digest = hashlib.sha256()
    for part in (kind.encode(), processing_key, b"frames" if is_frames else b"", repr(fps).encode()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    for blob in blobs:
        if isinstance(blob, bytes):
            digest.update(b"file" + len(blob).to_bytes(8, "little"))
            digest.update(blob)
        else:
            digest.update(b"pixels" + repr(blob.shape).encode())
            digest.update(blob.tobytes())
    return digest.digest()


def item_digest(medium: bytes, index: int, count: int) -> bytes:
    """The digest of one of the ``count`` items of a medium: the medium's own if it is the only one."""
    if count == 1:
        return medium
    return hashlib.sha256(medium + index.to_bytes(4, "little")).digest()
