"""The frontend alone: streams of a fake scheduler through detokenizer, tokenizer manager and HTTP to a client.

The client is the process that calls ``measure_frontend``. It counts bytes and parses nothing: the fake scheduler
repeats one token whose text is one character that the events have nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]
import zmq

from hookline.bench.cpu_share import CpuShare
from hookline.bench.fake_scheduler import ack_codec
from hookline.bench.http_stream import HttpStream
from hookline.bench.server_process import ServerProcess
from hookline.config.sources import LoadedConfig
from hookline.errors import HooklineError
from hookline.launch import event_loop_factory
from hookline.messages.sockets import SocketDirectory, SocketSender

#: Occurs once in each event with a choice (and once in "[DONE]").
_EVENT_MARK = b"["
#: Characters that nothing else in an event contains, in the order in which they are tried.
_TOKEN_MARKS = "~^@|`"
_PROMPT_LEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendLoad:
    """What to send through the frontend."""

    streams: int
    tokens_per_stream: int
    tokens_per_step: int = 1
    #: Steps that the scheduler may be ahead of the client.
    steps_ahead: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendMeasurement:
    """One run."""

    load: FrontendLoad
    #: From the first request to the last byte.
    seconds: float
    #: From the first request until every stream has had its first event.
    seconds_to_all_started: float
    chunks: int
    #: Process -> share of one core over ``seconds``; "client" is the process that measures.
    cpu: dict[str, float]

    @property
    def tokens(self) -> int:
        return self.load.streams * self.load.tokens_per_stream

    @property
    def token_rate(self) -> float:
        """Output tokens per second, the start of the requests included."""
        return self.tokens / self.seconds

    @property
    def chunk_rate(self) -> float:
        """Events per second; fewer than tokens when the frontend joins what waits for a reader."""
        return self.chunks / self.seconds


def measure_frontend(loaded: LoadedConfig, load: FrontendLoad) -> FrontendMeasurement:
    """Start a server with a fake scheduler, read all streams at once, and stop it.

    Raises ``HooklineError`` when the server does not start, a request fails, or a token is missing.
    """
    directory = SocketDirectory()
    try:
        address = directory.address("acks")
        options = {
            "acks": address,
            "tokens_per_step": load.tokens_per_step,
            "window": load.steps_ahead * load.streams * load.tokens_per_step,
        }
        program = ("hookline.bench.fake_server", "--options", json.dumps(options))
        with ServerProcess(loaded, program=program) as server:
            server.wait_ready()
            with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
                return runner.run(_read_all(server, load, address))
    finally:
        directory.remove()


async def _read_all(server: ServerProcess, load: FrontendLoad, ack_address: str) -> FrontendMeasurement:
    token_id, mark = await _token(server.url)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sender = SocketSender(ack_address, ack_codec(), context=context, wait_when_full=True)
    counter = _Counter(mark, sender, step=max(1, load.streams * load.tokens_per_step // 4))
    streams = [await HttpStream.connect(server.url, on_data=counter.count) for _ in range(load.streams)]
    body = {
        "prompt": [token_id] * _PROMPT_LEN,
        "max_tokens": load.tokens_per_stream,
        "ignore_eos": True,
        "stream": True,
    }
    try:
        cpu = CpuShare({**server.processes(), "client": psutil.Process(os.getpid())})
        start = time.perf_counter()
        for stream in streams:
            stream.post("/v1/completions", body)
        for stream in streams:
            await stream.wait()
        shares = cpu.shares()
    finally:
        for stream in streams:
            stream.close()
        sender.close()
        context.term()
    if counter.num_tokens != load.streams * load.tokens_per_stream:
        raise HooklineError(
            f"{counter.num_tokens} tokens arrived instead of {load.streams * load.tokens_per_stream}. If the model's "
            f"context does not hold {_PROMPT_LEN + load.tokens_per_stream} tokens, measure with fewer tokens per "
            f"stream; the last stream ended with {streams[-1].last_event()}"
        )
    return FrontendMeasurement(
        load=load,
        seconds=max(stream.last for stream in streams) - start,
        seconds_to_all_started=max(stream.first or start for stream in streams) - start,
        chunks=counter.num_marks - load.streams,
        cpu=shares,
    )


class _Counter:
    """Counts what all streams bring, and tells the fake scheduler every ``step`` tokens."""

    def __init__(self, mark: bytes, sender: SocketSender[int], *, step: int) -> None:
        self._mark = mark
        self._sender = sender
        self._step = step
        self._num_told = 0
        self.num_tokens = 0
        self.num_marks = 0

    def count(self, data: bytes) -> None:
        """Take a piece of a stream, however it is cut."""
        self.num_tokens += data.count(self._mark)
        self.num_marks += data.count(_EVENT_MARK)
        if self.num_tokens - self._num_told >= self._step:
            self._num_told = self.num_tokens
            self._sender.send(self.num_tokens)


async def _token(url: str) -> tuple[int, bytes]:
    """A token whose text is one character of ``_TOKEN_MARKS``, wherever it stands."""
    for mark in _TOKEN_MARKS:
        ids = (await _ask(url, "/tokenize", {"prompt": mark, "add_special_tokens": False}))["tokens"]
        text = (await _ask(url, "/detokenize", {"tokens": [*ids[-1:]] * 3}))["text"]
        if text == mark * 3:
            return ids[-1], mark.encode()
    raise HooklineError(f"this tokenizer has no token for any of {' '.join(_TOKEN_MARKS)}; measure with another model")


async def _ask(url: str, path: str, body: dict[str, Any]) -> Any:
    stream = await HttpStream.connect(url)
    stream.post(path, body)
    await stream.wait()
    return stream.json()
