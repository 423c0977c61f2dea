"""New plugins that compute: from the first line to the last start, beside released wheels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories.new_plugin import NewPlugin, Proof, Server, live
from tests.factories.released import ReleasedEnvironment


def computes(server: Server, plugin: NewPlugin) -> None:
    """The demo model knows the answer, through the new plugin."""
    assert "42" in server.chat("What is 12 + 30?")


def adapts(server: Server, plugin: NewPlugin) -> None:
    """An adapter that comes with the demo model answers in capitals."""
    question = "What is the capital of France?"
    assert "Paris" in server.chat(question)
    assert "PARIS" in server.chat(question, model="upper")


def pools(server: Server, plugin: NewPlugin) -> None:
    """As the comment in hookline.toml says."""
    vector = server.post("/encode", text="to be or not to be", pooling=plugin.name)["embedding"]
    other = server.post("/encode", text="to be or not to be", pooling="last")["embedding"]
    assert len(vector) == len(other)
    assert vector != other


def completes(server: Server, plugin: NewPlugin) -> None:
    """A random model says anything, and says it again."""
    asked = {"text": "To be", "sampling_params": {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True}}
    first = server.post("/generate", **asked)
    assert first["meta_info"]["completion_tokens"] == 8
    assert server.post("/generate", **asked)["text"] == first["text"]


PROOFS: dict[str, Proof] = {
    "attention": computes,
    "lora": adapts,
    "model": completes,
    "ops": computes,
    "pooler": pools,
}
#: What hookline.toml says to run first.
PREPARATIONS = {
    "model": ("-m", "hookline.testkit.checkpoints", "checkpoint", "--architecture", "MyModelForCausalLM"),
}


@pytest.mark.parametrize("kind", list(PROOFS))
def test_a_new_plugin_is_built_tested_served_and_missed(
    kind: str, released_core: ReleasedEnvironment, tmp_path: Path
) -> None:
    live(NewPlugin(released_core.copy(tmp_path / "venv"), tmp_path, kind), PROOFS[kind], *PREPARATIONS.get(kind, ()))
