"""Decoders: a few processes that decode and process media, one job each at a time.

A job that takes too long, or whose requests have all gone, costs its process: it is killed, and the next job starts
another. So does a process that dies over a medium, and that medium alone fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

import msgspec

from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaParams
from hookline.media.jobs import LENGTH, Answer, DecodeJob, DecoderSetup, Grant, NeedsRoom, Processed, Refused
from hookline.media.segments import remove_segment

logger = logging.getLogger(__name__)

#: One thread in each: there are several of them.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
#: Variables that a decoder gets; others may be secrets, and it handles files of strangers.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME", "VIRTUAL_ENV")
_END_SECONDS = 2.0

#: Asked for room of so many bytes; raises when there is none.
MakeRoom = Callable[[int], None]


class Decoders:
    """The processes. Started when they are needed first, one perhaps ahead. Used on one event loop."""

    def __init__(self, setup: DecoderSetup, *, count: int, timeout: float) -> None:
        """``timeout`` is the seconds of one job; ``setup.max_seconds`` should be more."""
        self._setup = setup
        self._timeout = timeout
        self._free = asyncio.Semaphore(count)
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._burials: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> list[int]:
        """Process ids of those that live."""
        return [decoder.pid for decoder in (*self._idle, *self._busy)]

    async def start_ahead(self) -> None:
        """Start one, unless there is one: the first medium then need not wait for a process and its imports."""
        if not self._busy:
            async with self._free:
                if not self._idle:
                    self._idle.append(await _Decoder.start(self._setup))

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
    ) -> Processed:
        """Decode and process one medium into a new segment.

        ``make_room`` is called with the segment's bytes before it is written; what it raises is raised here. Raises
        ``RequestError`` for what is wrong with the medium. When this raises, there is no segment.
        """
        job = DecodeJob(
            kind=kind, params=asdict(params), is_frames=is_frames, fps=fps, num_blobs=len(blobs), segment=segment
        )
        async with self._free:
            decoder = self._idle.pop() if self._idle else await _Decoder.start(self._setup)
            self._busy.add(decoder)
            try:
                async with asyncio.timeout(self._timeout):
                    answer = await decoder.run(job, blobs, make_room)
            except TimeoutError as exc:
                raise RequestError(
                    f"decoding it took more than {self._timeout:g} s (media_decode_timeout)", code="media_too_large"
                ) from exc
            except (EOFError, ConnectionError) as exc:
                raise RequestError(
                    f"decoding it ended the decoder ({await decoder.cause()}): it is damaged, or takes more memory "
                    "than a decoder may have (media_decode_gib)",
                    code="media_failed",
                ) from exc
            finally:
                self._busy.discard(decoder)
                if decoder.is_idle:
                    self._idle.append(decoder)
                else:
                    decoder.kill()
                    burial = asyncio.create_task(_bury(decoder, segment))
                    self._burials.add(burial)
                    burial.add_done_callback(self._burials.discard)
                    # Also when this job is given up a second time.
                    await asyncio.shield(burial)
        if isinstance(answer, Refused):
            remove_segment(segment)
            raise answer.error()
        return answer

    async def close(self) -> None:
        """End all processes."""
        idle, self._idle = self._idle, []
        for decoder in self._busy:
            decoder.kill()
        for decoder in idle:
            await decoder.close()
        await asyncio.gather(*self._burials)


class _Decoder:
    """One process."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        #: Whether no job is half-way: it may have another one.
        self.is_idle = True

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, setup: DecoderSetup) -> _Decoder:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "hookline.media.decoder", "--control", str(theirs.fileno())]
        # It must see the packages that this process sees, however they came onto its path.
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with theirs:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={**kept, **_ENVIRONMENT, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            # Given up before it had anything to do.
            ours.close()
            process.kill()
            process.wait()
            raise
        decoder = cls(process, reader, writer)
        decoder._put(msgspec.msgpack.encode(setup))
        return decoder

    async def run(self, job: DecodeJob, blobs: Sequence[bytes], make_room: MakeRoom) -> Processed | Refused:
        self.is_idle = False
        self._put(msgspec.msgpack.encode(job))
        for blob in blobs:
            self._put(blob)
            await self._writer.drain()
        answer = await self._get()
        if not isinstance(answer, NeedsRoom):
            self.is_idle = True
            return answer
        try:
            make_room(answer.num_bytes)
        except Exception:
            self._put(msgspec.msgpack.encode(Grant(granted=False)))
            await self._get()
            self.is_idle = True
            raise
        self._put(msgspec.msgpack.encode(Grant(granted=True)))
        last = await self._get()
        if isinstance(last, NeedsRoom):
            raise ConnectionError("the decoder asks for room twice")
        self.is_idle = True
        return last

    async def cause(self) -> str:
        """How the process ended."""
        try:
            code = await asyncio.wait_for(asyncio.to_thread(self._process.wait, _END_SECONDS), _END_SECONDS * 2)
        except (TimeoutError, subprocess.TimeoutExpired):
            return "it does not end"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it at once; ``wait`` tells when it has ended."""
        self._writer.close()
        self._process.kill()

    async def wait(self) -> None:
        """Until it has ended."""
        # SIGKILL is not put off, but the kernel has memory to free.
        await asyncio.to_thread(self._process.wait)

    async def close(self) -> None:
        """End it in order."""
        self._put(b"")
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()
        try:
            await asyncio.to_thread(self._process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            await self.wait()
        self._writer.close()

    def _put(self, data: bytes) -> None:
        self._writer.write(LENGTH.pack(len(data)))
        self._writer.write(data)

    async def _get(self) -> Answer:
        head = await self._reader.readexactly(LENGTH.size)
        data = await self._reader.readexactly(LENGTH.unpack(head)[0])
        answer: Answer = msgspec.msgpack.decode(data, type=NeedsRoom | Processed | Refused)
        return answer


async def _bury(decoder: _Decoder, segment: str) -> None:
    """Wait for a killed process, and take away what it may have written."""
    await decoder.wait()
    remove_segment(segment)
