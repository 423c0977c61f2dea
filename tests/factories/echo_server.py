"""A whole server with the echo scheduler: run as a program, or driven by a test through ``EchoServer``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from hookline.config.schema import HooklineConfig
from hookline.launch import ProcessTarget, ProcessTargets, Resolved, run_server
from hookline.testkit.plans import chosen, make_plan
from tests.factories.echo_api import PATHS

_ROOT = Path(__file__).parents[2]
_PATIENCE = 30.0


class EchoServer:
    """A server process and what it prints."""

    def __init__(
        self, checkpoint: Path, logs: Path, *, config: Mapping[str, Any] | None = None, **environ: str
    ) -> None:
        sections = {"server": {"port": 0, "warmup": True}, **(config or {})}
        sections["server"] = {"port": 0, **sections["server"]}
        self._out = logs / "stdout"
        self._err = logs / "stderr"
        paths = os.pathsep.join(str(path) for path in (_ROOT, _ROOT / "core", _ROOT / "plugins" / "api"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.factories.echo_server", str(checkpoint), json.dumps(sections)],
                stdout=out,
                stderr=err,
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": paths, **environ},
                start_new_session=True,
            )
        self.url = ""

    def wait_ready(self) -> EchoServer:
        """Wait for the ready line, and take the URL from it."""
        wait_until(lambda: "Try:" in self.stdout or self.process.poll() is not None)
        assert self.process.poll() is None, self.stderr
        self.url = next(word for word in self.stdout.split() if word.startswith("http://"))
        return self

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    @property
    def last_line(self) -> str:
        """The last line on stderr."""
        return self.stderr.strip().rpartition("\n")[2]

    def children(self) -> dict[str, psutil.Process]:
        """Name -> process of each child."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            line = child.cmdline()
            if "--name" in line:
                found[line[line.index("--name") + 1]] = child
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = _PATIENCE) -> int:
        """Wait for the end; gives the exit code."""
        return self.process.wait(timeout)

    def generate(self, client: httpx.Client | None = None, **body: Any) -> list[dict[str, Any]]:
        """All lines of one request."""
        response = (client or httpx).post(f"{self.url}/generate", json=body, timeout=_PATIENCE)
        response.raise_for_status()
        return [json.loads(line) for line in response.text.splitlines()]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=_PATIENCE)

    def post(self, path: str) -> httpx.Response:
        return httpx.post(self.url + path, timeout=_PATIENCE)

    def close(self) -> None:
        """End everything that may be left."""
        processes = (
            [] if self.process.poll() is not None else [psutil.Process(self.process.pid), *self.children().values()]
        )
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(_PATIENCE)


def wait_until(condition: Callable[[], bool], *, seconds: float = _PATIENCE) -> None:
    """Poll until the condition holds; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


def main(checkpoint: str, sections: str) -> int:
    config = HooklineConfig.model_validate(json.loads(sections))

    def resolve() -> Resolved:
        family = chosen("api_families", "echo", "tests.factories.echo_api:EchoFamily", details={"paths": PATHS})
        plan = make_plan(Path(checkpoint), config=config.model_dump(exclude_unset=True), plugins=[family])
        return Resolved(plan=plan, given=[], plugin_report={})

    return run_server(
        config, resolve, targets=ProcessTargets(scheduler=ProcessTarget(target="tests.factories.echo_scheduler:run"))
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
