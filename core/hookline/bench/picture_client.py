"""PictureClient: asks a server about pictures, and notes when each event of the answers came."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hookline.bench.http_stream import HttpStream
from hookline.bench.latencies import summary
from hookline.bench.pictures import PicturePrompts, PictureSource, picture_body
from hookline.errors import HooklineError

_DONE = b"data: [DONE]"
#: Tokens that a request wants whose first token alone counts, and one that disturbs a text stream.
_FEW_TOKENS = 2
#: Requests with a picture that are in flight beside a text stream.
_NUM_DISTURBING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureLoad:
    """What is asked of the server."""

    #: Pictures in one request, each measured.
    counts: Sequence[int] = (1, 4, 16)
    repetitions: int = 3
    num_concurrent: int = 32
    output_len: int = 32
    #: Tokens of the text stream beside which pictures arrive.
    stream_len: int = 256


@dataclass(slots=True)
class PictureTimes:
    """Seconds, as the client saw them."""

    #: Pictures of a request -> medians of the time to the first token.
    first_token: dict[int, float] = field(default_factory=dict)
    #: One picture: "new", "same text" and "different text" (the picture again), medians.
    repeated: dict[str, float] = field(default_factory=dict)
    concurrent_seconds: float = 0.0
    num_concurrent: int = 0
    #: "alone" and "with pictures": percentiles of a text stream's inter-token latency in milliseconds.
    inter_token_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    #: Requests with a picture that were answered beside the text stream, and how long that took.
    disturbing: int = 0
    disturbed_seconds: float = 0.0

    @property
    def request_rate(self) -> float:
        """Requests per second of those that came at once."""
        return self.num_concurrent / self.concurrent_seconds


class PictureClient:
    """The measurements, one after the other."""

    def __init__(self, url: str, prompts: PicturePrompts, pictures: PictureSource, load: PictureLoad) -> None:
        self._url = url
        self._prompts = prompts
        self._pictures = pictures
        self._load = load

    async def measure(self) -> PictureTimes:
        """Everything; of each measurement the first round is a warm-up.

        Raises ``HooklineError`` when a request fails or is answered with fewer tokens.
        """
        found = PictureTimes(num_concurrent=self._load.num_concurrent)
        for count in self._load.counts:
            seconds = [await self._first_token(count) for _ in range(1 + self._load.repetitions)]
            found.first_token[count] = statistics.median(seconds[1:])
        rounds = [await self._repeated() for _ in range(1 + self._load.repetitions)][1:]
        found.repeated = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        for _ in range(2):  # the first warms up: batches of these sizes compile kernels
            found.concurrent_seconds = await self._concurrent()
        await self._disturbed(found)
        return found

    async def _first_token(self, count: int) -> float:
        return await self._ask_first(self._prompts.ids(count), [self._pictures.new() for _ in range(count)])

    async def _repeated(self) -> dict[str, float]:
        picture, ids = self._pictures.new(), self._prompts.ids(1)
        return {
            "new": await self._ask_first(ids, [picture]),
            "same text": await self._ask_first(ids, [picture]),
            "different text": await self._ask_first(self._prompts.ids(1), [picture]),
        }

    async def _concurrent(self) -> float:
        bodies = [self._body(self._load.output_len) for _ in range(self._load.num_concurrent)]
        started = time.perf_counter()
        await asyncio.gather(*(self._ask(body) for body in bodies))
        return time.perf_counter() - started

    async def _disturbed(self, found: PictureTimes) -> None:
        """The inter-token latency of a text stream, first alone, then beside requests with new pictures."""
        body = picture_body(self._prompts.text(), [], new_tokens=self._load.stream_len)
        found.inter_token_ms["alone"] = summary(_gaps(await self._ask(body)))
        body = picture_body(self._prompts.text(), [], new_tokens=self._load.stream_len)
        stream = asyncio.create_task(self._ask(body))
        clients = [asyncio.create_task(self._disturb(found)) for _ in range(_NUM_DISTURBING)]
        started = time.perf_counter()
        try:
            events = await stream
        finally:
            found.disturbed_seconds = time.perf_counter() - started
            answered = found.disturbing
            for client in clients:
                client.cancel()
            outcomes = await asyncio.gather(*clients, return_exceptions=True)
        failures = [one for one in outcomes if isinstance(one, Exception)]
        if failures:
            raise failures[0]
        found.disturbing = answered
        found.inter_token_ms["with pictures"] = summary(_gaps(events))

    async def _disturb(self, found: PictureTimes) -> None:
        while True:
            await self._ask(self._body(_FEW_TOKENS))
            found.disturbing += 1

    def _body(self, new_tokens: int) -> dict[str, Any]:
        return picture_body(self._prompts.ids(1), [self._pictures.new()], new_tokens=new_tokens)

    async def _ask_first(self, ids: Sequence[int], pictures: Sequence[bytes]) -> float:
        events = await self._ask(picture_body(ids, pictures, new_tokens=_FEW_TOKENS))
        return events[1] - events[0]

    async def _ask(self, body: Mapping[str, Any]) -> list[float]:
        """perf_counter of the request's start, then of each event."""
        times: list[float] = []

        def note(data: bytes) -> None:
            if data.count(b"data: ") > data.count(_DONE):
                times.append(time.perf_counter())

        stream = await HttpStream.connect(self._url, on_data=note)
        try:
            stream.post("/generate", body)
            await stream.wait()
        finally:
            stream.close()
        meta = stream.last_event()["meta_info"]
        wanted = body["sampling_params"]["max_new_tokens"]
        if meta["completion_tokens"] != wanted:
            raise HooklineError(f"a request got {meta['completion_tokens']} tokens, not {wanted}: {meta}")
        return [stream.started, *times]


def _gaps(times: Sequence[float]) -> list[float]:
    """Seconds between tokens, from the first one on."""
    return [after - before for before, after in itertools.pairwise(times[1:])]
