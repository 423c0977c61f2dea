"""ServerProcess: a server that a measurement starts for itself, on a free port of the loopback."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

from hookline.config.sources import LoadedConfig
from hookline.errors import ConfigError, HooklineError

_START_SECONDS = 600.0
_STOP_SECONDS = 20.0
#: What ``python -m`` runs for ``hookline``.
_COMMAND_LINE = ("hookline", "serve")


class ServerProcess:
    """Starts in the constructor; leaving the ``with`` block stops it and its children."""

    def __init__(self, loaded: LoadedConfig, *, program: Sequence[str] = _COMMAND_LINE) -> None:
        """A server with the settings of ``loaded``. ``program`` is a module and its first arguments, which takes
        the flags of ``hookline serve``.

        Raises ``ConfigError`` for settings that the measurement could not deal with.
        """
        _check(loaded)
        self._directory = tempfile.TemporaryDirectory(prefix="hookline-bench-")
        directory = Path(self._directory.name)
        settings = directory / "settings.json"
        settings.write_text(json.dumps(loaded.config.model_dump(mode="json", exclude_unset=True)))
        self._errors = directory / "stderr"
        command = [sys.executable, "-P", "-m", *program, "--config", str(settings)]
        with self._errors.open("wb") as errors:
            self._started = time.perf_counter()
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        #: The base URL, once the server is ready.
        self.url = ""

    def wait_ready(self) -> float:
        """Wait for the ready line; gives the seconds since the start of the process.

        Raises ``HooklineError`` with the server's last words if it ends before.
        """
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        text = b""
        while b"\n" not in text:
            left = self._started + _START_SECONDS - time.perf_counter()
            if not select.select([descriptor], [], [], max(0.0, left))[0]:
                raise HooklineError(
                    f"the server was not ready after {_START_SECONDS:g} s; it said: {self._last_words()}"
                )
            data = os.read(descriptor, 1 << 16)
            if not data:
                self._process.wait(_STOP_SECONDS)
                raise HooklineError(f"the server did not start: {self._last_words()}")
            text += data
        seconds = time.perf_counter() - self._started
        self.url = next(word for word in text.decode().split() if word.startswith("http://"))
        return seconds

    def processes(self) -> dict[str, psutil.Process]:
        """Name -> process: "server" and its children."""
        main = psutil.Process(self._process.pid)
        found = {"server": main}
        for child in main.children():
            line = child.cmdline()
            if "--name" in line:
                found[line[line.index("--name") + 1]] = child
        return found

    def close(self) -> None:
        """Stop it: politely, then by force."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # Its children end with it.
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_words(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"


def _check(loaded: LoadedConfig) -> None:
    server = loaded.config.server
    for name, value in (("api_key", server.api_key), ("tls_cert_file", server.tls_cert_file)):
        if value is not None:
            raise ConfigError(
                f"server.{name} is set ({loaded.origin_of(f'server.{name}')}), but this command starts a server of its "
                "own without keys or TLS; leave it out"
            )
