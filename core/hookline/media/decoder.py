"""A decoding process: ``python -m hookline.media.decoder``. One job at a time, with bounded memory.

It ends when its control socket does. Then, should the server have died without cleaning up, it removes the segments
that the server left.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from hookline.errors import RequestError
from hookline.interfaces.multimodal import MultimodalProcessor, ProcessedItem, ProcessedMedia
from hookline.media.decoding import load_processor, process_medium
from hookline.media.jobs import (
    Answer,
    DecodeJob,
    DecoderSetup,
    Grant,
    ItemPlace,
    NeedsRoom,
    Processed,
    Refused,
    TensorPlace,
    params_of,
    receive,
    send,
)
from hookline.media.segments import create_segment, remove_segments

log = logging.getLogger(__name__)

#: Arrays begin at multiples of so many bytes.
_ALIGNMENT = 64


class Decoder:
    """The loop."""

    def __init__(self, control: socket.socket, processor: MultimodalProcessor, setup: DecoderSetup) -> None:
        self._control = control
        self._processor = processor
        self._setup = setup

    def run(self) -> bool:
        """Serve until the server says goodbye; false if it went without."""
        while (data := receive(self._control)) is not None:
            if not data:
                return True
            job = msgspec.msgpack.decode(data, type=DecodeJob)
            blobs = []
            for _ in range(job.num_blobs):
                blob = receive(self._control)
                if blob is None:
                    return False
                blobs.append(bytes(blob))
            signal.alarm(self._setup.max_seconds)
            answer = self._answer(job, blobs)
            signal.alarm(0)
            if answer is None:
                return False
            self._send(answer)
        return False

    def _answer(self, job: DecodeJob, blobs: list[bytes]) -> Answer | None:
        """What became of a job; ``None`` when the server has gone."""
        try:
            media = process_medium(
                self._processor,
                job.kind,
                blobs,
                params_of(job.params),
                self._setup.limits,
                is_frames=job.is_frames,
                fps=job.fps,
            )
            blobs.clear()
            return self._write(job, media)
        except RequestError as exc:
            return Refused(message=exc.message, code=exc.code, status_code=exc.status_code)
        except MemoryError:
            message = "decoding it takes more memory than a decoder may have (media_decode_gib)"
            return Refused(message=message, code="media_too_large", status_code=400)
        except Exception as exc:
            log.exception("processing a medium failed")
            message = f"processing it failed: {type(exc).__name__}: {exc!s:.200}"
            return Refused(message=message, code="media_failed", status_code=500)

    def _write(self, job: DecodeJob, media: ProcessedMedia) -> Answer | None:
        places, size = _lay_out(media.items)
        self._send(NeedsRoom(num_bytes=size))
        # The server may take its time: others' media must leave first.
        signal.alarm(0)
        data = receive(self._control)
        if data is None:
            return None
        if not msgspec.msgpack.decode(data, type=Grant).granted:
            return Refused(message="there is no room for it", code="overloaded", status_code=503)
        segment = create_segment(job.segment, size)
        for place, item in zip(places, media.items, strict=True):
            for tensor in place.tensors:
                source = np.ascontiguousarray(item.tensors[tensor.name])
                target: NDArray[Any] = np.frombuffer(segment, source.dtype, source.size, tensor.offset)
                target[:] = source.reshape(-1)
                del target
        segment.close()
        return Processed(items=places, facts=dict(media.facts))

    def _send(self, answer: Answer) -> None:
        send(self._control, msgspec.msgpack.encode(answer))


def _lay_out(items: Sequence[ProcessedItem]) -> tuple[list[ItemPlace], int]:
    """Where each array of the items goes, and the bytes of all."""
    places = []
    size = 0
    for item in items:
        tensors = []
        for name, array in item.tensors.items():
            tensors.append(TensorPlace(name=name, dtype=str(array.dtype), shape=array.shape, offset=size))
            size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        places.append(ItemPlace(grid=tuple(item.grid), num_rows=item.num_rows, cost=item.cost, tensors=tensors))
    return places, size


def _no_text(text: str) -> NoReturn:
    raise AssertionError("process() must not tokenize")


def limit_memory(max_bytes: int) -> None:
    """Give this process so many bytes more than it has now."""
    allowed = _status_bytes("VmData") + max_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _status_bytes(field: str) -> int:
    with open("/proc/self/status") as lines:
        values: Mapping[str, str] = dict(line.split(":", 1) for line in lines)
    return int(values[field].split()[0]) * 1024


def main() -> int:
    """Read the set-up, make the processor, serve; at the end see that nothing is left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control)
    # Signals of a terminal reach every process; this one's end is the control socket's.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    data = receive(control)
    if data is None:
        return 0
    setup = msgspec.msgpack.decode(data, type=DecoderSetup)
    said_goodbye = False
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        said_goodbye = _serve(control, setup)
    if not said_goodbye:
        remove_segments(setup.prefix)
    return 0


def _serve(control: socket.socket, setup: DecoderSetup) -> bool:
    processor = load_processor(setup.plugins, setup.model_path, _no_text)
    assert processor is not None, "a model without a processor has no decoders"
    # Loaded now, it does not count as the first job's memory.
    import PIL.Image  # noqa: F401

    limit_memory(setup.max_bytes)
    return Decoder(control, processor, setup).run()


if __name__ == "__main__":
    sys.exit(main())
