"""EngineMedia: media of an engine in one process, decoded in it, from whatever a Python caller has."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hookline.config.engine_plan import EnginePlan
from hookline.errors import RequestError
from hookline.interfaces.api import GenerateRequest
from hookline.interfaces.multimodal import (
    NO_PARAMS,
    MediaInput,
    MediaLimits,
    MediaParams,
    MultimodalProcessor,
)
from hookline.media.checks import MediaChecks, named_fault
from hookline.media.decoding import Blob, process_medium
from hookline.media.digests import medium_digest
from hookline.media.limits import DecodeLimits, file_limits
from hookline.media.loaders import MediaLoaders
from hookline.media.pool import Entry, MediaPool, PoolFullError
from hookline.media.prepared import PreparedMedia, PreparedMedium

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class EngineMedia:
    """What ``MediaIntake`` is to a server. Recent media are kept, up to the same budget."""

    def __init__(self, plan: EnginePlan, processor: MultimodalProcessor) -> None:
        """Raises ``PluginError`` when a media loader does not load."""
        config = plan.config.multimodal
        self._plan = plan
        self._config = config
        self._processor = processor
        self._checks = MediaChecks(config, processor.placeholders, plan.served_model_name)
        self._limits = DecodeLimits.of(config)
        self._pool = MediaPool(int(config.media_pool_gib * (1 << 30)), remove=lambda segment: None)
        # A thread of its own: the caller may run an event loop.
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="media")

    def prepare(self, media: Sequence[MediaInput]) -> PreparedMedia:
        """The media of one request; the caller must ``release`` them. Raises ``RequestError`` naming the item."""
        held: list[Entry] = []
        try:
            for one in self._checks.apply(media):
                held.append(self._entry(one))
        except BaseException:
            self._pool.release(held)
            raise
        return PreparedMedia(media=[entry.value for entry in held], on_release=lambda: self._pool.release(held))

    def close(self) -> None:
        """Stop the thread."""
        self._fetcher.shutdown(wait=False, cancel_futures=True)

    def _entry(self, one: MediaInput) -> Entry:
        try:
            sources = one.source if isinstance(one.source, list) else [one.source]
            blobs = [self._blob(one, source) for source in sources]
            is_frames = isinstance(one.source, list)
            key = self._processor.processing_key(one.kind, one.params)
            digest = medium_digest(one.kind, blobs, key, is_frames=is_frames, fps=one.fps)
            entry = self._pool.find(digest)
            if entry is not None:
                return entry
            done = process_medium(
                self._processor, one.kind, blobs, one.params, self._limits, is_frames=is_frames, fps=one.fps
            )
            size = sum(array.nbytes for item in done.items for array in item.tensors.values())
            self._pool.take(size, self._pool.no_admission)
            return self._pool.add(digest, "", size, PreparedMedium.in_process(digest, done))
        except PoolFullError as exc:
            raise RequestError(
                f"{one.where}: there is no room for its {exc.num_bytes} bytes beside the media of open requests "
                "(media_pool_gib)",
                code="media_too_large",
                status_code=413,
            ) from exc
        except RequestError as exc:
            raise named_fault(one, exc) from exc

    def _blob(self, one: MediaInput, source: Any) -> Blob:
        if not isinstance(source, str):
            blob: Blob = source
            return blob
        return self._fetcher.submit(asyncio.run, self._fetch(source, file_limits(self._config, one))).result()

    async def _fetch(self, ref: str, limits: MediaLimits) -> bytes:
        loaders = MediaLoaders.load(self._plan.plugins, self._config)
        try:
            return await loaders.fetch(ref, limits)
        finally:
            await loaders.close()


def to_source(value: Any) -> Any:
    """What ``MediaInput.source`` takes, of what a caller may have: PIL pictures, arrays, bytes, paths, URLs.

    Raises ``RequestError`` for anything else, and for files that cannot be read.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, os.PathLike)):
        if isinstance(value, str) and _HAS_SCHEME.match(value):
            return value
        try:
            # The caller runs in this process: it could read the file itself.
            return Path(value).expanduser().read_bytes()
        except OSError as exc:
            raise RequestError(f"cannot be read: {exc}") from exc
    if "PIL.Image" in sys.modules and isinstance(value, sys.modules["PIL.Image"].Image):
        from hookline.media.images import rgb_pixels

        return rgb_pixels(value)
    if isinstance(value, np.ndarray):
        return _checked_pixels(value)
    raise RequestError(f"must be a PIL picture, an array, bytes, a path or a URL, not {type(value).__name__}")


def with_media(
    requests: Sequence[GenerateRequest], images: Any, videos: Any, *, is_list: bool
) -> list[GenerateRequest]:
    """The requests with their media: lists of those of the one prompt, or with ``is_list`` such a list for each."""
    if images is None and videos is None:
        return list(requests)
    each = {"images": images, "videos": videos}
    if is_list:
        for field, value in each.items():
            if value is not None and (not isinstance(value, (list, tuple)) or len(value) != len(requests)):
                raise RequestError(
                    f"{field} must be a list with an entry for each of {len(requests)} prompts", param=field
                )
    return [
        replace(request, media=beside_prompt(*(value[i] if is_list and value else value for value in each.values())))
        for i, request in enumerate(requests)
    ]


def beside_prompt(images: Any, videos: Any, *, params: MediaParams = NO_PARAMS) -> list[MediaInput]:
    """The media of one prompt, given as lists. A video may be a list of frames, or an array [F, H, W, 3]."""
    media = []
    for kind, field, values in (("image", "images", images), ("video", "videos", videos)):
        if values is None:
            continue
        for index, value in enumerate(values if isinstance(values, (list, tuple)) else [values]):
            where = f"{field}[{index}]"
            try:
                is_frames = kind == "video" and (
                    isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 4)
                )
                source = [to_source(frame) for frame in value] if is_frames else to_source(value)
            except RequestError as exc:
                raise RequestError(f"{where} {exc.message}", param=field) from exc
            media.append(MediaInput(kind=kind, source=source, params=params, where=where))
    return media


def _checked_pixels(value: NDArray[Any]) -> NDArray[np.uint8]:
    if value.dtype != np.uint8 or value.ndim not in (2, 3) or (value.ndim == 3 and value.shape[2] not in (1, 3)):
        raise RequestError(f"must be an array [height, width, 3] of uint8, not {list(value.shape)} of {value.dtype}")
    if 0 in value.shape:
        raise RequestError("has no pixels")
    grey = value[..., None] if value.ndim == 2 else value
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)))
