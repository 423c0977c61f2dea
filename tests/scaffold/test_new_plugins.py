"""For every kind: begin a plugin, build, install, test, serve with and uninstall it, beside released wheels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hookline.scaffold.kinds import KINDS
from tests.factories.new_plugin import NewPlugin, Server
from tests.factories.released import ReleasedEnvironment


def computes(server: Server, plugin: NewPlugin) -> None:
    """The demo model answers as it always does, through the new plugin."""
    question = {"role": "user", "content": "What is 12 + 30?"}
    answer = server.post("/v1/chat/completions", model="demo", messages=[question], temperature=0)
    assert "42" in answer["choices"][0]["message"]["content"]


def pools(server: Server, plugin: NewPlugin) -> None:
    """As the comment in hookline.toml says."""
    (largest, *_) = server.post("/encode", text="to be or not to be", pooling=plugin.name)["embedding"]
    assert isinstance(largest, float)


def completes(server: Server, plugin: NewPlugin) -> None:
    """A random model says anything, and says it again."""
    asked = {"text": "To be", "sampling_params": {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True}}
    first = server.post("/generate", **asked)
    assert first["meta_info"]["completion_tokens"] == 8
    assert server.post("/generate", **asked)["text"] == first["text"]


#: What shows that a kind's plugin serves, besides that the server has chosen it.
PROOFS: dict[str, Callable[[Server, NewPlugin], None]] = {
    "policy": computes,
    "scheduler": computes,
    "model": completes,
    "pooler": pools,
}
#: What hookline.toml asks for first.
PREPARATIONS = {
    "model": ("-m", "hookline.testkit.checkpoints", "checkpoint", "--architecture", "MyModelForCausalLM"),
}


@pytest.mark.parametrize("kind", list(PROOFS))
def test_a_new_plugin_is_built_tested_served_and_missed(
    kind: str, released: ReleasedEnvironment, tmp_path: Path
) -> None:
    plugin = NewPlugin(released.copy(tmp_path / "venv"), tmp_path, kind)
    plugin.install_wheel()
    plugin.run_its_tests()
    if kind in PREPARATIONS:
        plugin.environment.must(*PREPARATIONS[kind], cwd=plugin.folder)
    with plugin.serve() as server:
        wanted = {(offers, plugin.name, plugin.distribution, "0.1.0") for offers in KINDS[kind].offers}
        assert wanted <= server.chosen
        PROOFS[kind](server, plugin)
    plugin.uninstall()
    status, error = plugin.start_without_it()
    assert status == 1
    assert re.search(rf"pip install .?{plugin.distribution}\b", error), error
