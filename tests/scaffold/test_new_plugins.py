"""New plugins that handle requests and text: from the first line to the last start, beside released wheels.

Those that compute are in test_new_model_plugins.py, which another process may run at the same time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hookline.scaffold.kinds import KINDS
from tests.factories.new_plugin import NewPlugin, Proof, Server, live
from tests.factories.released import ReleasedEnvironment
from tests.scaffold.test_new_model_plugins import PROOFS as MODEL_PROOFS


def answers(server: Server, plugin: NewPlugin) -> None:
    assert "42" in server.chat("What is 12 + 30?")


def serves_its_own_paths(server: Server, plugin: NewPlugin) -> None:
    """With the option that hookline.toml sets."""
    assert server.client.get(f"/{plugin.name}/info").json()["max_tokens"] == 64
    answer = server.post(f"/{plugin.name}/complete", prompt="Once upon", max_tokens=4, temperature=0)
    assert answer["completion_tokens"] == 4


def constrains(server: Server, plugin: NewPlugin) -> None:
    sampling = {"temperature": 0, "max_new_tokens": 16, "regex": "(?:ab){3}"}
    assert server.post("/generate", text="Once upon", sampling_params=sampling)["text"] == "ababab"


def forbids(server: Server, plugin: NewPlugin) -> None:
    """The token that would come first never comes."""
    sampling: dict[str, Any] = {"temperature": 0, "max_new_tokens": 8}
    (first, *_) = server.post("/generate", text="Once upon", sampling_params=sampling)["output_ids"]
    sampling["logits_processors"] = {plugin.name: {"token_ids": [first]}}
    assert first not in server.post("/generate", text="Once upon", sampling_params=sampling)["output_ids"]


PROOFS: dict[str, Proof] = {
    "api": serves_its_own_paths,
    "grammar": constrains,
    "logits-processor": forbids,
    "parser": answers,
    "policy": answers,
    "scheduler": answers,
}


def test_every_kind_has_its_proof() -> None:
    assert {*PROOFS, *MODEL_PROOFS} == set(KINDS)


@pytest.mark.parametrize("kind", list(PROOFS))
def test_a_new_plugin_is_built_tested_served_and_missed(
    kind: str, released_core: ReleasedEnvironment, tmp_path: Path
) -> None:
    live(NewPlugin(released_core.copy(tmp_path / "venv"), tmp_path, kind), PROOFS[kind])
