"""Shell: runs the commands of a tutorial one block after the other, as a reader with two terminals does."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

from tests.docs.blocks import Block
from tests.factories.demo_server import RunningServer

_ADDRESS = "127.0.0.1:8000"
_SERVE = "hookline serve "


class Terminal:
    """Folder and environment last from block to block; `hookline serve` keeps running until a block has no curl."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        #: What the last block printed.
        self.output = ""
        self._logs = folder / ".logs"
        self._logs.mkdir()
        self._server: RunningServer | None = None

    def run(self, block: Block) -> None:
        """Run a block of commands; it must fail if its title says so, and succeed otherwise."""
        if block.text.startswith(_SERVE) and not _must_fail(block):
            self._serve(block)
            return
        text = block.text
        if "curl " in text:
            assert self._server is not None, f"{block.place}: no server runs"
            text = text.replace(_ADDRESS, self._server.url.removeprefix("http://")).replace("curl ", "curl -sSf ")
        else:
            self.stop()
        state = self._logs / "state"
        script = f"set -e\n{text}\npwd > {shlex.quote(str(state))}\nenv -0 >> {shlex.quote(str(state))}\n"
        answer = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.output = answer.stdout
        assert (answer.returncode != 0) == _must_fail(block), f"{block.place}\n{block.text}\n{answer.stdout}"
        if answer.returncode == 0:
            folder, _, variables = state.read_text().partition("\n")
            self.folder = Path(folder)
            self.environment = dict(item.split("=", 1) for item in variables.split("\0") if item)

    def expect(self, block: Block) -> None:
        """The lines of a block must occur in the last output, in order; ``…`` stands for anything in a line."""
        rest = self.output
        for line in block.text.splitlines():
            pattern = ".*".join(re.escape(part) for part in line.split("…"))
            match = re.search(pattern, rest)
            assert match is not None, f"{block.place}: no {line!r} in\n{self.output}"
            rest = rest[match.end() :]

    def stop(self) -> None:
        """Press Ctrl-C where a server runs."""
        server, self._server = self._server, None
        if server is not None:
            os.killpg(server.process.pid, signal.SIGINT)
            try:
                assert server.process.wait(60) in (0, 130, -signal.SIGINT), server.stderr
            finally:
                server.close()

    def _serve(self, block: Block) -> None:
        self.stop()
        program = subprocess.run(
            ["bash", "-c", "command -v hookline"], env=self.environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        arguments = shlex.split(block.text.removeprefix(_SERVE))
        self._server = RunningServer(
            self._logs, arguments, program=[program], environment=self.environment, cwd=self.folder
        )


def _must_fail(block: Block) -> bool:
    return block.title.startswith("fails")
