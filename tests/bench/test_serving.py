"""Serving load against a peer: an asyncio server that answers as told, cut into any pieces."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from hookline.bench.chunked_body import ChunkedBody
from hookline.bench.latencies import Limits, RequestTimes, ServingMeasurement
from hookline.bench.serving import Arrivals, ServerAddress, measure_serving, served_model
from hookline.bench.svg_plot import Panel, cumulative_plot
from hookline.bench.workloads import Workload
from hookline.commands.bench.serving import serving
from hookline.errors import HooklineError

_GAP = 0.01


def event(**values: Any) -> bytes:
    return b"data: " + json.dumps(values).encode() + b"\n\n"


def chunked(body: bytes, size: int) -> bytes:
    """A body in HTTP chunks of uneven sizes."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts)


class Peer:
    """Generates one token an event, ``_GAP`` seconds apart."""

    def __init__(self, *, fails: Callable[[int], bool] = lambda number: False, loses: int = 0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.num_running = self.most_running = 0
        self._fails = fails
        self._loses = loses

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length"))
        body = await reader.readexactly(length)
        self.keys += [line.split(": ")[1] for line in head.splitlines() if line.startswith("authorization")]
        if head.startswith("GET /v1/models "):
            data = chunked(json.dumps({"data": [{"id": "peer-model"}]}).encode(), 7)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data + b"0\r\n\r\n")
        else:
            assert head.startswith("POST /v1/completions ")
            await self._complete(json.loads(body), writer)
        writer.close()

    async def _complete(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        number = len(self.bodies)
        self.bodies.append(body)
        if self._fails(number):
            writer.write(b"HTTP/1.1 503 Busy\r\n\r\nthe peer is busy")
            return
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        count = body["max_tokens"] - self._loses
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(count):
            await asyncio.sleep(_GAP)
            # In two pieces, the second of which begins inside of a chunk.
            data = chunked(event(choices=[{"text": "~"}]), 11)
            writer.write(data[:20])
            await writer.drain()
            writer.write(data[20:])
        writer.write(chunked(event(choices=[], usage={"completion_tokens": count}) + b"data: [DONE]\n\n", 1000))
        writer.write(b"0\r\n\r\n")
        self.num_running -= 1


@asynccontextmanager
async def running(peer: Peer) -> AsyncIterator[ServerAddress]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield ServerAddress(url=f"http://127.0.0.1:{port}/v1/", api_key="secret")


def workload(count: int, output_len: int = 3) -> Workload:
    return Workload(name="w", prompts=[[1, 2]] * count, output_lens=[output_len] * count)


def measure(peer: Peer, load: Workload, arrivals: Arrivals) -> ServingMeasurement:
    async def run() -> ServingMeasurement:
        async with running(peer) as server:
            model = await served_model(server)
            assert model == "peer-model"
            return await measure_serving(server, model, load, arrivals)

    return asyncio.run(run())


@contextmanager
def in_thread(peer: Peer) -> Iterator[str]:
    """The URL of a peer with a loop of its own."""
    started, ended = threading.Event(), asyncio.Event()
    url: list[str] = []

    async def run() -> None:
        async with running(peer) as server:
            url.append(server.url)
            started.set()
            await ended.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert started.wait(10)
        yield url[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()


def test_the_command_runs_every_workload_with_every_load(tmp_path: Path) -> None:
    peer = Peer()
    report, plot = tmp_path / "report.json", tmp_path / "plot.svg"
    with in_thread(peer) as url:
        shape = ("--workload", "mixed", "--num-requests", "4", "--input-len", "9", "--output-len", "3")
        loads = ("--concurrency", "2", "--rate", "500", "--slo-e2e-ms", "100000")
        files = ("--output", str(report), "--plot", str(plot))
        done = CliRunner().invoke(serving, ["--base-url", url, "--api-key", "k", *shape, *loads, *files])
    assert done.exit_code == 0, done.output
    shown = json.loads(report.read_text())
    assert (shown["model"], shown["limits_s"]["e2e"]) == ("peer-model", 100.0)
    assert [(run["concurrency"], run["rate"]) for run in shown["runs"]] == [(2, None), (None, 500.0)]
    for run in shown["runs"]:
        assert (run["requests"], run["failed"], run["good_share"], len(run["each"])) == (4, 0, 1.0, 4)
        assert run["goodput_per_s"] == pytest.approx(run["requests_per_s"])
        assert run["latency_ms"]["ttft"]["p50"] >= 1000 * _GAP
    # Otherwise the second run would find the prefixes of the first.
    assert len({body["prompt"][0] for body in peer.bodies[:4]} & {body["prompt"][0] for body in peer.bodies[4:]}) == 0
    assert [line.split()[:3] for line in done.output.splitlines()[1:]] == [
        ["mixed", "2", "clients"],
        ["mixed", "500", "requests/s"],
    ]
    assert "mixed, 500 requests/s" in plot.read_text()


def test_a_closed_loop_keeps_so_many_requests_in_flight() -> None:
    peer = Peer()
    result = measure(peer, workload(6), Arrivals(concurrency=2))
    assert peer.most_running == 2
    assert [body["prompt"] for body in peer.bodies] == [[1, 2]] * 6
    assert set(peer.keys) == {"Bearer secret"}
    assert sum(times.output_tokens for times in result.requests) == 18
    for times in result.requests:
        assert not times.error
        assert times.ttft >= _GAP
        assert len(times.gaps) == 2
        assert times.ttft + times.decode <= times.e2e
        assert times.tpot == pytest.approx(sum(times.gaps) / 2)
    # Three turns of three tokens each.
    assert result.seconds >= 9 * _GAP
    assert result.output_rate == pytest.approx(18 / result.seconds)


def test_an_open_loop_sends_whether_or_not_the_server_keeps_up() -> None:
    peer = Peer()
    result = measure(peer, workload(8, output_len=20), Arrivals(rate=1000.0, seed=1))
    assert peer.most_running == 8
    assert result.request_rate == pytest.approx(8 / result.seconds)


def test_failures_are_counted_and_belong_to_no_percentile() -> None:
    result = measure(Peer(fails=lambda number: number == 1), workload(3), Arrivals(concurrency=1))
    record = result.record(Limits())
    assert (record["requests"], record["failed"], record["short"]) == (3, 1, 0)
    assert record["errors"] == ["the server answered 503: the peer is busy"]
    assert len(result.latencies()["ttft"]) == 2
    with pytest.raises(HooklineError, match="all 2 requests failed; the first: the server answered 503"):
        measure(Peer(fails=lambda number: True), workload(2), Arrivals(concurrency=1))


def test_a_peer_that_stops_early_is_told_apart() -> None:
    result = measure(Peer(loses=1), workload(2), Arrivals(concurrency=2))
    record = result.record(Limits(e2e=100.0))
    assert (record["failed"], record["short"], record["goodput_per_s"]) == (0, 2, 0.0)


def test_goodput_counts_requests_within_all_limits() -> None:
    def times(ttft: float, e2e: float, **fields: Any) -> RequestTimes:
        found = RequestTimes(input_tokens=1, wanted_tokens=3, output_tokens=3, **fields)
        found.note(0.0, [ttft, ttft + 0.2], e2e)
        return found

    requests = [times(0.1, 1.0), times(0.3, 1.0), times(0.1, 3.0), times(0.1, 1.0, error="gone")]
    result = ServingMeasurement(seconds=2.0, requests=requests)
    assert result.goodput(Limits()) == 1.5
    assert result.goodput(Limits(ttft=0.2)) == 1.0
    assert result.goodput(Limits(ttft=0.2, e2e=2.0)) == 0.5
    assert result.goodput(Limits(tpot=0.09)) == 0.0
    assert result.percentiles()["ttft"]["p50"] == 100.0


def test_nobody_at_home_is_said_plainly() -> None:
    with pytest.raises(HooklineError, match=r"no server answers at http://127\.0\.0\.1:9"):
        asyncio.run(served_model(ServerAddress(url="http://127.0.0.1:9")))
    with pytest.raises(HooklineError, match="is not a base URL"):
        asyncio.run(served_model(ServerAddress(url="127.0.0.1:8000")))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_chunks_come_apart_however_they_are_cut(size: int) -> None:
    body = bytes(range(256)) * 3
    data = chunked(body, 37) + b"0\r\nTrailer: x\r\n\r\n"
    reader = ChunkedBody()
    found = b"".join(reader.feed(data[start : start + size]) for start in range(0, len(chunked(body, 37)) + 3, size))
    assert found == body


def test_the_plot_is_a_picture_with_a_line_for_each_run() -> None:
    panels = [
        Panel(title="a < b", series={"one & only": [1.0, 2.0, 40.0], "two": [3.0]}),
        Panel(title="empty", series={"one & only": [], "two": [0.0, 0.0]}),
    ]
    root = ElementTree.fromstring(cumulative_plot(panels))
    lines = [item for item in root.iter() if item.tag.endswith("polyline")]
    assert len(lines) == 3
    texts = [item.text for item in root.iter() if item.tag.endswith("text")]
    assert {"a < b", "one & only", "two"} <= set(texts)
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert all(0 <= x <= 700 and 0 <= y <= 240 for x, y in points)
        # A share never falls.
        assert all(after[1] <= before[1] for before, after in itertools.pairwise(points))
