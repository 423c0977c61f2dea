"""Servers with the echo scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.echo_server import EchoServer
from tests.factories.frontend import save_frontend_checkpoint

StartServer = Callable[..., EchoServer]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without weights whose context is long enough for streams that last."""
    return save_frontend_checkpoint(tmp_path_factory.mktemp("launch"), max_position_embeddings=1_000_000)


@pytest.fixture
def start_server(checkpoint: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers that do not outlive the test."""
    servers: list[EchoServer] = []

    def start(*, ready: bool = True, **settings: Any) -> EchoServer:
        logs = tmp_path / str(len(servers))
        logs.mkdir()
        servers.append(EchoServer(checkpoint, logs, **settings))
        return servers[-1].wait_ready() if ready else servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    """One server for tests that leave it as it was."""
    made = EchoServer(checkpoint, tmp_path_factory.mktemp("shared"), ECHO_STEP_SECONDS="0.001")
    try:
        yield made.wait_ready()
        assert made.process.poll() is None, made.stderr
    finally:
        made.close()
