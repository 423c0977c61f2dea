"""For every kind: begin a plugin, build, install, test, serve with and uninstall it, beside released wheels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hookline.scaffold.kinds import KINDS
from tests.factories.new_plugin import NewPlugin, Server
from tests.factories.released import ReleasedEnvironment

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "What is 12 + 30?"}], "temperature": 0}


def chats(server: Server, plugin: NewPlugin) -> None:
    answer = server.post("/v1/chat/completions", **CHAT)
    assert "42" in answer["choices"][0]["message"]["content"]


#: What shows in a kind's answers that its plugin serves, besides that the server has chosen it.
PROOFS: dict[str, Callable[[Server, NewPlugin], None]] = {"policy": chats}


@pytest.mark.parametrize("kind", list(PROOFS))
def test_a_new_plugin_is_built_tested_served_and_missed(
    kind: str, released: ReleasedEnvironment, tmp_path: Path
) -> None:
    plugin = NewPlugin(released.copy(tmp_path / "venv"), tmp_path, kind)
    plugin.install_wheel()
    plugin.run_its_tests()
    with plugin.serve() as server:
        wanted = {(offers, plugin.name, plugin.distribution, "0.1.0") for offers in KINDS[kind].offers}
        assert wanted <= server.chosen
        PROOFS[kind](server, plugin)
    plugin.uninstall()
    status, error = plugin.start_without_it()
    assert status == 1
    assert re.search(rf"pip install .?{plugin.distribution}\b", error), error
