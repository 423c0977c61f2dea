"""How a server starts and ends: readiness, failures, kills, drains."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.factories.echo_server import EchoServer, wait_until

#: Seconds within which a server must be gone once a process of it died.
_DEATH_SECONDS = 5.0
_ENDLESS = {"max_new_tokens": 500_000}


class Stream:
    """A request that is read in a thread."""

    def __init__(self, server: EchoServer, **body: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read, args=(server, body), daemon=True)
        self._thread.start()
        wait_until(lambda: bool(self.lines))

    def _read(self, server: EchoServer, body: dict[str, Any]) -> None:
        try:
            with httpx.stream("POST", f"{server.url}/generate", json=body, timeout=60.0) as response:
                for line in response.iter_lines():
                    self.lines.append(json.loads(line))
        except httpx.HTTPError as exc:
            self.error = exc

    def last(self) -> dict[str, Any]:
        """The last line, once the stream has ended."""
        self._thread.join(30.0)
        assert not self._thread.is_alive()
        return self.lines[-1]


def _assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=_DEATH_SECONDS)
    assert alive == []


# --- start ---


def test_loading_server_says_why_it_is_not_ready(start_server: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server(ready=False, config={"server": {"port": port}}, ECHO_START_SECONDS="3")
    server.url = f"http://127.0.0.1:{port}"
    # The port is open from the start; the first answer comes when the application is up.
    ready = _retry(server, "/ready")
    assert (ready.status_code, ready.json()) == (503, {"reason": "starting: the model is being loaded"})
    assert server.get("/health").status_code == 503
    refused = httpx.post(f"{server.url}/generate", json={"ids": [3]})
    assert refused.status_code == 503
    assert "being loaded" in refused.text
    server.wait_ready()
    assert server.get("/ready").status_code == 200
    assert server.get("/health").status_code == 200


def _retry(server: EchoServer, path: str) -> httpx.Response:
    answers: list[httpx.Response] = []

    def ask() -> bool:
        try:
            answers.append(server.get(path))
        except httpx.ConnectError:
            return False
        return True

    wait_until(ask)
    return answers[-1]


def test_ready_line_has_url_and_example(start_server: Any) -> None:
    server = start_server()
    first, second = server.stdout.strip().splitlines()[:2]
    assert "tiny at http://127.0.0.1:" in first
    assert second == "  " + second.strip()
    assert second.strip().startswith(f"curl {server.url}/")


def test_port_in_use_is_told_before_anything_loads(start_server: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        # The scheduler would take a minute to come up.
        server = start_server(ready=False, config={"server": {"port": port}}, ECHO_START_SECONDS="60")
        assert server.wait() == 1
    assert f"port {port} on 127.0.0.1 is in use" in server.last_line
    assert "--port" in server.last_line


def test_address_of_another_machine_is_told(start_server: Any) -> None:
    server = start_server(ready=False, config={"server": {"host": "192.0.2.7"}})
    assert server.wait() == 1
    assert "not an address of this machine" in server.last_line


def test_failing_start_ends_with_its_cause(start_server: Any) -> None:
    server = start_server(ready=False, ECHO_FAIL="no config.json in '/models/x'")
    assert server.wait() == 1
    assert server.last_line == "hookline: error: the scheduler process failed: no config.json in '/models/x'"
    assert "Traceback" not in server.stderr


def test_unusable_configuration_ends_with_its_cause(start_server: Any) -> None:
    config = {"model": {"preferred_sampling_params": {"top_p": 7}}}
    server = start_server(ready=False, config=config)
    assert server.wait() == 1
    assert "preferred_sampling_params" in server.last_line
    assert "top_p" in server.last_line


def test_unusable_certificate_ends_with_its_cause(start_server: Any, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    files = {"tls_cert_file": str(tmp_path / "absent.pem"), "tls_key_file": str(tmp_path / "key.pem")}
    server = start_server(ready=False, config={"server": files})
    assert server.wait() == 1
    assert "absent.pem" in server.last_line
    assert "tls_cert_file" in server.last_line


def test_cause_is_a_log_line_where_logs_are_json(start_server: Any) -> None:
    config = {"observability": {"log_format": "json"}}
    server = start_server(ready=False, config=config, ECHO_FAIL="no config.json in '/models/x'")
    assert server.wait() == 1
    lines = [json.loads(line) for line in server.stderr.splitlines()]
    assert lines[-1]["message"] == "the scheduler process failed: no config.json in '/models/x'"
    assert lines[-1]["level"] == "critical"


# --- death ---


@pytest.mark.parametrize("name", ["scheduler", "detokenizer"])
def test_killed_child_ends_the_server_with_its_cause(start_server: Any, name: str) -> None:
    server = start_server(ECHO_STEP_SECONDS="0.01")
    children = server.children()
    stream = Stream(server, ids=[3], params=_ENDLESS)
    pid = children[name].pid
    children[name].kill()
    assert server.wait(_DEATH_SECONDS) == 1
    cause = f"the {name} process (pid {pid}) was killed by signal 9 (SIGKILL)"
    assert server.last_line.startswith(f"hookline: error: {cause}")
    assert stream.last()["error"].startswith(cause)
    _assert_gone(list(children.values()))


def test_crashed_scheduler_ends_the_server_with_its_error(start_server: Any) -> None:
    server = start_server(ECHO_STEP_SECONDS="0.01")
    children = server.children()
    stream = Stream(server, ids=[3], params=_ENDLESS)
    answer = server.post("/control/crash")
    assert answer.status_code == 500
    assert "the echo cracked" in answer.text
    assert server.wait(_DEATH_SECONDS) == 1
    cause = "the scheduler process failed: ZeroDivisionError: the echo cracked"
    assert server.last_line == f"hookline: error: {cause}"
    assert "in _control" in server.stderr, "the place of an unforeseen error is logged"
    assert stream.last()["error"] == cause
    _assert_gone(list(children.values()))


def test_killed_server_leaves_no_orphans(start_server: Any) -> None:
    server = start_server(ECHO_STEP_SECONDS="0.01")
    children = list(server.children().values())
    assert len(children) == 2
    Stream(server, ids=[3], params=_ENDLESS)
    server.signal(signal.SIGKILL)
    server.wait()
    _assert_gone(children)


def test_server_killed_while_starting_leaves_no_orphans(start_server: Any) -> None:
    server = start_server(ready=False, ECHO_START_SECONDS="60")
    wait_until(lambda: len(server.children()) == 2)
    children = list(server.children().values())
    server.signal(signal.SIGKILL)
    server.wait()
    _assert_gone(children)


# --- drain ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_running_requests_end_and_refuses_new_ones(start_server: Any, number: signal.Signals) -> None:
    server = start_server(ECHO_STEP_SECONDS="0.01")
    children = list(server.children().values())
    stream = Stream(server, ids=[3, 4], params={"max_new_tokens": 150})
    server.signal(number)
    wait_until(lambda: server.get("/ready").status_code == 503)
    assert "shutting down" in server.get("/ready").text
    refused = httpx.post(f"{server.url}/generate", json={"ids": [3]})
    assert refused.status_code == 503
    assert stream.last()["finish"] == ["length", ""]
    assert [token for line in stream.lines for token in line["ids"]] == [3, 4] * 75
    assert server.wait() == 0
    _assert_gone(children)


def test_idle_server_stops_at_once(start_server: Any) -> None:
    server = start_server(config={"server": {"drain_timeout": 1000.0}})
    children = list(server.children().values())
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "error" not in server.stderr
    _assert_gone(children)


def test_draining_ends_at_its_deadline(start_server: Any) -> None:
    server = start_server(config={"server": {"drain_timeout": 0.2}}, ECHO_STEP_SECONDS="0.01")
    stream = Stream(server, ids=[3], params=_ENDLESS)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert stream.last()["finish"] == ["abort", "the server is shutting down"]


def test_second_signal_stops_now(start_server: Any) -> None:
    server = start_server(config={"server": {"drain_timeout": 1000.0}}, ECHO_STEP_SECONDS="0.01")
    stream = Stream(server, ids=[3], params=_ENDLESS)
    server.signal(signal.SIGINT)
    wait_until(lambda: server.get("/ready").status_code == 503)
    assert server.process.poll() is None
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert stream.last()["finish"] == ["abort", "the server is shutting down"]


def test_signal_to_the_whole_group_drains_too(start_server: Any) -> None:
    server = start_server(ECHO_STEP_SECONDS="0.01")
    stream = Stream(server, ids=[3], params={"max_new_tokens": 100})
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.wait() == 0
    assert stream.last()["finish"] == ["length", ""]


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.9])
def test_signal_while_starting_stops_at_once(start_server: Any, tmp_path: Path, delay: float) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    server = start_server(ready=False, ECHO_START_SECONDS="60", TMPDIR=str(temporary))
    wait_until(lambda: len(server.children()) == 2)
    children = list(server.children().values())
    time.sleep(delay)
    server.signal(signal.SIGTERM)
    assert server.wait(_DEATH_SECONDS) in (0, 130)
    _assert_gone(children)
    assert list(temporary.iterdir()) == []


def test_child_that_dies_while_draining_is_still_the_cause(start_server: Any) -> None:
    server = start_server(config={"server": {"drain_timeout": 1000.0}}, ECHO_STEP_SECONDS="0.01")
    Stream(server, ids=[3], params=_ENDLESS)
    server.signal(signal.SIGTERM)
    wait_until(lambda: server.get("/ready").status_code == 503)
    server.children()["scheduler"].kill()
    assert server.wait(_DEATH_SECONDS) == 1
    assert "the scheduler process" in server.last_line


def test_scheduler_that_does_not_listen_is_killed(start_server: Any) -> None:
    server = start_server(ECHO_STUBBORN="1")
    children = list(server.children().values())
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    _assert_gone(children)
