"""A plugin from `hookline plugins new`, from its first line to its last start, beside released wheels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hookline.scaffold.kinds import KINDS
from tests.factories.demo_server import RunningServer
from tests.factories.released import PACKAGES, ReleasedEnvironment, build_wheels

_ORIGINS = """
import importlib.util, json, sys
print(json.dumps([importlib.util.find_spec(name).origin for name in sys.argv[1:]]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs with the new plugin."""

    client: httpx.Client
    #: Offers that were chosen: (kind, name, distribution, version).
    chosen: set[tuple[str, str, str, str]]

    def post(self, path: str, **body: Any) -> Any:
        """The JSON answer to a request that must succeed."""
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def chat(self, question: str, model: str = "demo") -> str:
        """The likeliest answer."""
        messages = [{"role": "user", "content": question}]
        answer = self.post("/v1/chat/completions", model=model, messages=messages, temperature=0)
        content: str = answer["choices"][0]["message"]["content"]
        return content


class NewPlugin:
    """One distribution, made by the command in an environment, built, installed and used there."""

    def __init__(self, environment: ReleasedEnvironment, place: Path, kind: str) -> None:
        self.environment = environment
        self.kind = KINDS[kind]
        self.name = f"my-{kind}"
        self.distribution = f"hookline-{self.name}"
        self.package = self.distribution.replace("-", "_")
        self.folder = place / self.distribution
        self._place = place
        told = environment.must("-m", "hookline", "plugins", "new", self.name, "--kind", kind, cwd=place)
        assert f"cd {self.distribution}\n" in told

    def install_for_tests(self) -> None:
        """Build the wheel and install it with its extra "test": nothing of Hookline that it does not name."""
        build_wheels([self.folder], self._place / "dist")
        self.environment.install(f"{self.distribution}[test]", find=self._place / "dist")

    def run_its_tests(self) -> None:
        told = self.environment.must("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", cwd=self.folder)
        # A test that is skipped for want of a distribution: the extra has to name it.
        assert "pip install" not in told, told

    def install_for_serving(self) -> None:
        """All of Hookline beside it; everything lies in the environment."""
        self.environment.install("hookline")
        found = self.environment.must("-c", _ORIGINS, self.package, *PACKAGES, cwd=self.folder)
        packages = str(self.environment.packages)
        assert [origin for origin in json.loads(found) if not origin.startswith(packages)] == []

    @contextmanager
    def serve(self) -> Iterator[Server]:
        """A server with the generated configuration file."""
        running = RunningServer(
            self._place,
            ["--config", "hookline.toml"],
            program=self.environment.program,
            environment=self.environment.variables,
            cwd=self.folder,
        )
        try:
            with httpx.Client(base_url=running.url, timeout=60) as client:
                report = client.get("/plugins").json()
                chosen = {
                    (spec["kind"], spec["name"], spec["distribution"], spec["version"]) for spec in report["chosen"]
                }
                yield Server(client=client, chosen=chosen)
        finally:
            running.close()

    def uninstall(self) -> None:
        self.environment.uninstall(self.distribution)

    def start_without_it(self) -> tuple[int, str]:
        """Exit status and standard error of a start with the same configuration file."""
        ended = self.environment.run(
            "-m", "hookline", "serve", "--port", "0", "--config", "hookline.toml", cwd=self.folder
        )
        return ended.returncode, ended.stderr


#: What shows that a plugin serves, besides that the server has chosen it.
Proof = Callable[[Server, NewPlugin], None]


def live(plugin: NewPlugin, proof: Proof, *preparation: str) -> None:
    """The whole life: build and install it, run its tests, serve with it, uninstall it, and see that it is missed.

    ``preparation`` are arguments of Python: what its hookline.toml says to run before the server.
    """
    plugin.install_for_tests()
    plugin.run_its_tests()
    plugin.install_for_serving()
    if preparation:
        plugin.environment.must(*preparation, cwd=plugin.folder)
    with plugin.serve() as server:
        wanted = {(offers, plugin.name, plugin.distribution, "0.1.0") for offers in plugin.kind.offers}
        assert wanted <= server.chosen
        proof(server, plugin)
    plugin.uninstall()
    status, error = plugin.start_without_it()
    assert status == 1
    assert re.search(rf"pip install .?{plugin.distribution}\b", error), error
