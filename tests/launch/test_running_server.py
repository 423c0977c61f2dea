"""A server of three processes at work: many streams, slow and vanishing readers, aborts, idleness."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.factories.echo_server import EchoServer, wait_until


def _metric(server: EchoServer, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def _is_idle(server: EchoServer) -> bool:
    """Whether neither frontend nor scheduler holds a request."""
    state = server.post("/control/server_state").json()
    return _metric(server, "hookline_requests_in_flight") == 0 and state["num_running"] == 0


def _ids(lines: list[dict[str, Any]]) -> list[int]:
    return [token for line in lines for token in line["ids"]]


def test_answer_passes_through_all_processes(server: EchoServer) -> None:
    lines = server.generate(prompt="to be or not", params={"max_new_tokens": 8})
    assert "".join(line["text"] for line in lines) == "to be or notto be or not"
    assert lines[-1]["finish"] == ["length", ""]


def test_choices_are_all_answered(server: EchoServer) -> None:
    lines = server.generate(ids=[5, 6], params={"max_new_tokens": 3, "n": 4})
    for index in range(4):
        assert _ids([line for line in lines if line["index"] == index]) == [5, 6, 5]


async def test_64_streams_at_once_keep_their_tokens(server: EchoServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60.0) as client:

        async def one(number: int) -> None:
            ids = [3 + number, 100 + number]
            response = await client.post("/generate", json={"ids": ids, "params": {"max_new_tokens": 20 + number}})
            got = _ids([json.loads(line) for line in response.text.splitlines()])
            assert got == (ids * 64)[: 20 + number]

        await asyncio.gather(*(one(number) for number in range(64)))
    assert _is_idle(server)


def test_slow_reader_gets_every_token(server: EchoServer) -> None:
    count = 1500
    ids = list(range(3, 203))
    body = {"ids": ids, "params": {"max_new_tokens": count}}
    lines: list[dict[str, Any]] = []
    with httpx.stream("POST", f"{server.url}/generate", json=body, timeout=60.0) as response:
        for number, line in enumerate(response.iter_lines()):
            lines.append(json.loads(line))
            if number < 20:
                time.sleep(0.02)
    assert _ids(lines) == (ids * 100)[:count]
    assert lines[-1]["finish"] == ["length", ""]


@pytest.mark.parametrize("n", [1, 3])
def test_disconnect_frees_every_choice(server: EchoServer, n: int) -> None:
    body = {"ids": [3], "params": {"max_new_tokens": 500_000, "n": n}}
    with httpx.stream("POST", f"{server.url}/generate", json=body, timeout=60.0) as response:
        rows = response.iter_lines()
        next(rows)
        assert not _is_idle(server)
    wait_until(lambda: _is_idle(server))


def test_abort_by_id_ends_the_stream(server: EchoServer) -> None:
    body = {"ids": [3], "rid": "mine", "params": {"max_new_tokens": 500_000, "n": 2}}
    with httpx.stream("POST", f"{server.url}/generate", json=body, timeout=60.0) as response:
        rows = response.iter_lines()
        first = json.loads(next(rows))
        assert first["finish"] is None
        assert server.post("/abort/min").json() == {"aborted": 0}
        assert server.post("/abort/mine").json() == {"aborted": 2}
        ends = [end for end in (json.loads(row)["finish"] for row in rows) if end is not None]
    assert ends == [["abort", "aborted"], ["abort", "aborted"]]
    assert _is_idle(server)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": ""},
        {"ids": [10**9]},
        {"ids": [3], "params": {"temperature": -1}},
        {"ids": [3], "params": {"colour": "red"}},
        {"ids": [3], "params": {"stop": ["x"] * 10_000}},
        {"ids": [3] * 1_000_001},
    ],
    ids=["nothing", "empty", "range", "negative", "unknown", "stops", "long"],
)
def test_bad_request_is_400_and_the_server_goes_on(server: EchoServer, body: dict[str, Any]) -> None:
    response = httpx.post(f"{server.url}/generate", json=body, timeout=60.0)
    assert response.status_code == 400
    assert _ids(server.generate(ids=[4], params={"max_new_tokens": 2})) == [4, 4]
    assert _is_idle(server)


def test_control_request_that_is_refused_is_400(server: EchoServer) -> None:
    assert server.post("/control/no_such_thing").status_code == 400


def test_server_info_names_all_processes(server: EchoServer) -> None:
    info = server.get("/info").json()
    children = server.children()
    assert info["processes"]["server"]["pid"] == server.process.pid
    assert info["processes"]["scheduler"] == {"pid": children["scheduler"].pid, "device": "echo"}
    assert info["processes"]["detokenizer"]["pid"] == children["detokenizer"].pid
    assert info["ready"] is True
    assert info["config"]["server"]["api_key"] is None


def test_server_info_says_where_the_start_went(server: EchoServer) -> None:
    info = server.get("/info").json()
    phases = info["start_timeline"]
    assert list(phases) == ["import", "config", "weights", "kernels", "graphs", "ready"]
    assert min(phases.values()) >= 0
    # It begins with the process, start_seconds with the command inside of it.
    assert info["start_seconds"] - 0.02 <= sum(phases.values()) < info["start_seconds"] + 60


def test_idle_processes_sleep(server: EchoServer) -> None:
    processes = [psutil.Process(server.process.pid), *server.children().values()]
    assert _is_idle(server)
    before = [sum(process.cpu_times()[:2]) for process in processes]
    seconds = 1.5
    time.sleep(seconds)
    used = [sum(process.cpu_times()[:2]) - start for process, start in zip(processes, before, strict=True)]
    # 2 % of a core, and the clock's grain of 0.01 s on either side.
    assert max(used) <= 0.02 * seconds + 0.02, used


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_neither_frontend_nor_detokenizer_loads_torch(server: EchoServer) -> None:
    for pid in (server.process.pid, server.children()["detokenizer"].pid):
        assert "torch" not in Path(f"/proc/{pid}/maps").read_text()


def test_running_server_leaves_no_files(start_server: Any, tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    server = start_server(TMPDIR=str(temporary))
    assert list(temporary.iterdir()) == []
    assert _ids(server.generate(ids=[4], params={"max_new_tokens": 2})) == [4, 4]


def test_children_run_in_the_servers_group_but_ignore_its_signals(server: EchoServer) -> None:
    for child in server.children().values():
        assert os.getpgid(child.pid) == os.getpgid(server.process.pid)
        child.send_signal(2)
        child.send_signal(15)
    assert _ids(server.generate(ids=[4], params={"max_new_tokens": 2})) == [4, 4]
