"""MediaIntake: from the media that a client names to prepared ones in shared memory, on the server's event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from hookline.config.schema import MultimodalConfig
from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaInput, MediaParams, MultimodalProcessor
from hookline.media.checks import MediaChecks, named_fault
from hookline.media.decoders import MakeRoom
from hookline.media.decoding import Blob
from hookline.media.digests import medium_digest
from hookline.media.jobs import Processed
from hookline.media.limits import checked_file, file_limits
from hookline.media.loaders import MediaLoaders
from hookline.media.pool import Admission, Entry, MediaPool, PoolFullError
from hookline.media.prepared import PreparedMedia, PreparedMedium
from hookline.observability.media_metrics import MediaFigures

logger = logging.getLogger(__name__)

#: Blobs up to so many bytes are hashed on the loop.
_INLINE_BYTES = 64 * 1024


class DecodesMedia(Protocol):
    """What does the decoding: ``hookline.media.decoders.Decoders``, or something else in tests."""

    async def run(
        self,
        kind: str,
        blobs: Sequence[bytes],
        params: MediaParams,
        *,
        segment: str,
        make_room: MakeRoom,
        is_frames: bool = False,
        fps: float | None = None,
    ) -> Processed: ...
    async def start_ahead(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(slots=True)
class MediaCounts:
    """What has passed, for metrics."""

    #: Media that were decoded, and those that were there already, by kind.
    decoded: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    #: Media that were refused, by the error's code.
    refused: dict[str, int] = field(default_factory=dict)
    fetched_bytes: int = 0
    #: Seconds by stage: "fetch", "decode" (waiting for a decoder included).
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, counts: dict[str, int], key: str) -> None:
        """One more."""
        counts[key] = counts.get(key, 0) + 1

    def spend(self, stage: str, seconds: float) -> None:
        """Time of a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


@dataclass(slots=True, eq=False)
class _Job:
    """One medium that is being decoded, and the requests that wait for it."""

    task: asyncio.Task[Entry]
    num_waiters: int = 0


@dataclass(slots=True, kw_only=True)
class _Loading:
    """A request whose media are being loaded."""

    #: Room for its files, and for what is made of them.
    files: Admission
    room: Admission
    #: Bytes of its files, as far as they are known.
    expected: int
    held: list[Entry] = field(default_factory=list)


def segment_prefix() -> str:
    """What the names of one server's segments begin with."""
    return f"hookline-media-{os.getpid()}-{secrets.token_hex(4)}-"


class MediaIntake:
    """Fetches, decodes and keeps the media of requests."""

    def __init__(
        self,
        *,
        config: MultimodalConfig,
        processor: MultimodalProcessor,
        checks: MediaChecks,
        loaders: MediaLoaders,
        decoders: DecodesMedia,
        pool: MediaPool,
        prefix: str,
    ) -> None:
        self.pool = pool
        self.counts = MediaCounts()
        self._config = config
        self._processor = processor
        self._checks = checks
        self._loaders = loaders
        self._decoders = decoders
        self._prefix = prefix
        self._names = itertools.count(1)
        self._fetches = asyncio.Semaphore(config.media_fetches)
        self._jobs: dict[bytes, _Job] = {}

    async def start_ahead(self) -> None:
        """Have a decoder ready for the first medium. Where that fails, the first medium tells."""
        try:
            await self._decoders.start_ahead()
        except OSError:
            logger.warning("no decoder of media could be started ahead", exc_info=True)

    async def prepare(self, media: Sequence[MediaInput]) -> PreparedMedia:
        """Fetch, decode and hold the media of a request; the caller must ``release`` them.

        Raises ``RequestError`` naming the item at fault, and ``OverloadedError`` when there is no room for too long.
        """
        try:
            return await self._prepare(self._checks.apply(media))
        except RequestError as exc:
            self.counts.add(self.counts.refused, exc.code)
            raise

    def figures(self) -> MediaFigures:
        """For metrics."""
        return MediaFigures(
            pool_bytes=self.pool.used_bytes,
            held_bytes=self.pool.held_bytes,
            max_bytes=self.pool.max_bytes,
            num_kept=self.pool.num_entries,
            num_waiting=self.pool.num_waiting,
            num_decoding=len(self._jobs),
            decoded=self.counts.decoded,
            reused=self.counts.reused,
            refused=self.counts.refused,
            fetched_bytes=self.counts.fetched_bytes,
            seconds=self.counts.seconds,
        )

    async def close(self) -> None:
        """End the decoders and remove all segments: no process reads them any more."""
        for job in list(self._jobs.values()):
            job.task.cancel()
        await asyncio.gather(*(job.task for job in list(self._jobs.values())), return_exceptions=True)
        await self._decoders.close()
        await self._loaders.close()
        self.pool.clear()

    # --- below: one request ---

    async def _prepare(self, media: Sequence[MediaInput]) -> PreparedMedia:
        expected = sum(self._expected_bytes(one) for one in media)
        needed = 0
        while True:
            # Few files are as large as they may be; where all together could not be, they come one request at a time.
            files = min(expected, max(0, self.pool.max_bytes - needed))
            admission = await self.pool.admit(files + needed, timeout=self._config.media_pool_timeout)
            loading = _Loading(files=admission, room=self.pool.split(admission, needed), expected=expected)
            held = loading.held
            try:
                entries = await _all_or_none([self._load(one, loading) for one in media])
            except PoolFullError as full:
                # Others' media are in the way. Let go of everything, and wait until there is room for what is known
                # to be needed: what was decoded stays as long as nobody needs the room.
                total = full.num_bytes + sum(entry.num_bytes for entry in held)
                needed = total if total > needed else needed + full.num_bytes
                self.pool.release(held)
                continue
            except BaseException:
                self.pool.release(held)
                raise
            finally:
                self.pool.leave(loading.files)
                self.pool.leave(loading.room)
            return PreparedMedia(
                media=[entry.value for entry in entries], on_release=partial(self.pool.release, entries)
            )

    def _expected_bytes(self, one: MediaInput) -> int:
        """What the files of a medium may take until they are decoded."""
        limit = file_limits(self._config, one).max_bytes
        return sum(len(source) if isinstance(source, bytes) else limit for source in _sources(one))

    async def _load(self, one: MediaInput, loading: _Loading) -> Entry:
        """The entry of a medium, held, and noted in ``loading``."""
        try:
            blobs = await self._fetch(one)
            loading.expected -= self._expected_bytes(one) - sum(map(len, blobs))
            self.pool.shrink(loading.files, loading.expected)
            key = self._processor.processing_key(one.kind, one.params)
            digest = await _digest(one, blobs, key)
            entry = self.pool.find(digest)
            if entry is None:
                entry = await self._share(one, digest, blobs, loading.room)
            else:
                self.counts.add(self.counts.reused, one.kind)
        except RequestError as exc:
            raise named_fault(one, exc) from exc
        loading.held.append(entry)
        return entry

    async def _fetch(self, one: MediaInput) -> list[bytes]:
        started = time.monotonic()
        limits = file_limits(self._config, one)

        async def fetch(source: Any) -> bytes:
            if isinstance(source, bytes):
                return checked_file(source, limits)
            if not isinstance(source, str):
                raise RequestError("a server takes references and files, no pixels")
            async with self._fetches:
                return await self._loaders.fetch(source, limits)

        sources = _sources(one)
        if not sources:
            raise RequestError("the video has no frames")
        blobs = await _all_or_none([fetch(source) for source in sources])
        self.counts.spend("fetch", time.monotonic() - started)
        self.counts.fetched_bytes += sum(map(len, blobs))
        return blobs

    # --- decoding, once for all requests that wait for a medium ---

    async def _share(self, one: MediaInput, digest: bytes, blobs: list[bytes], room: Admission) -> Entry:
        job = self._jobs.get(digest)
        if job is None:
            job = _Job(asyncio.create_task(self._decode(one, digest, blobs, room)))
            self._jobs[digest] = job
        else:
            self.counts.add(self.counts.reused, one.kind)
        job.num_waiters += 1
        try:
            entry = await asyncio.shield(job.task)
            self.pool.hold(entry)
            return entry
        finally:
            job.num_waiters -= 1
            if job.num_waiters == 0:
                self._jobs.pop(digest, None)
                self._end(job)

    def _end(self, job: _Job) -> None:
        """The last waiter goes: of a job that is not done nobody wants the result."""
        if not job.task.done():
            job.task.cancel()
        elif not job.task.cancelled() and job.task.exception() is None:
            self.pool.release([job.task.result()])

    async def _decode(self, one: MediaInput, digest: bytes, blobs: list[bytes], room: Admission) -> Entry:
        """A new entry, held by the job."""
        started = time.monotonic()
        segment = f"{self._prefix}{next(self._names)}"
        taken = 0

        def make_room(num_bytes: int) -> None:
            nonlocal taken
            self.pool.take(num_bytes, room)
            taken = num_bytes

        try:
            done = await self._decoders.run(
                one.kind,
                blobs,
                one.params,
                segment=segment,
                make_room=make_room,
                is_frames=_is_frames(one),
                fps=one.fps,
            )
        except BaseException:
            self.pool.give_back(taken)
            raise
        self.counts.add(self.counts.decoded, one.kind)
        self.counts.spend("decode", time.monotonic() - started)
        medium = PreparedMedium.in_segment(one.kind, digest, done.items, done.facts, segment)
        return self.pool.add(digest, segment, taken, medium)


def _is_frames(one: MediaInput) -> bool:
    return isinstance(one.source, (list, tuple))


def _sources(one: MediaInput) -> Sequence[str | bytes | Blob]:
    return one.source if isinstance(one.source, (list, tuple)) else [one.source]  # type: ignore[list-item]


async def _digest(one: MediaInput, blobs: Sequence[bytes], key: bytes) -> bytes:
    def digest() -> bytes:
        return medium_digest(one.kind, blobs, key, is_frames=_is_frames(one), fps=one.fps)

    if sum(map(len, blobs)) <= _INLINE_BYTES:
        return digest()
    return await asyncio.to_thread(digest)


async def _all_or_none(works: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of all; the first error ends the others, which are awaited, and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        pending: list[Awaitable[Any]] = [task for task in tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.exception()
