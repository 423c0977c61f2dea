"""``hookline serve`` beside a plugin that does not fit: what was given, what is allowed, what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories.distributions import FakeDistribution, add_to_tree, hook

ROOT = Path(__file__).parents[2]
BACKEND = 'AttentionBackendSpec(name="fast", target="PACKAGE.backend:Fast"{})'


def hookline(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command with the shipped plugins and those in ``folder``; its exit status and the end of stderr."""
    trees = os.pathsep.join([str(ROOT / "plugins"), str(folder)])
    answer = subprocess.run(
        [sys.executable, "-m", "hookline", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HOOKLINE_SOURCE_TREE": trees, "PYTHONPATH": str(ROOT / "core")},
        timeout=120,
        check=False,
    )
    return answer.returncode, answer.stderr.strip().splitlines()[-1]


def offer(folder: Path, kind: str, body: str, **files: str) -> FakeDistribution:
    fake = add_to_tree(folder, "fast", hook(kind, body))
    for name, source in files.items():
        (fake.folder / fake.package / f"{name}.py").write_text(source)
    return fake


def test_a_plugin_for_another_version_of_the_contract(tmp_path: Path) -> None:
    fake = offer(tmp_path, "attention_backends", f"[{BACKEND.format('')}]")
    module = fake.folder / fake.package / "plugin.py"
    module.write_text(module.read_text().replace('PluginInfo(name="fast"', 'PluginInfo(name="fast", api_version=2'))
    code, line = hookline(tmp_path, "serve", "--dry-run", "--attention-backend", "fast")
    assert code == 1
    assert line.startswith("error: attention.attention_backend: unknown attention backend 'fast' (known: ")
    assert line.endswith(
        "; plugin 'fast' of fake-fast 1.0 is broken: it was written for version 2 of the plugin contract, this core "
        "speaks 1; upgrade hookline-core"
    )
    assert "pip install" not in line, "it is installed"


def test_an_offer_for_another_version_of_its_family(tmp_path: Path) -> None:
    offer(tmp_path, "attention_backends", f"[{BACKEND.format(', api_version=0')}]")
    code, line = hookline(tmp_path, "serve", "--dry-run", "--attention-backend", "fast")
    assert code == 1
    assert line.startswith(
        "error: attention_backends 'fast' of fake-fast 1.0, named by attention.attention_backend, cannot be used: was "
        "written for version 0 of attention_backends, this core speaks 1; upgrade fake-fast; what fits: "
    )


def test_an_offer_of_the_wrong_type(tmp_path: Path) -> None:
    offer(tmp_path, "attention_backends", '[PoolerSpec(name="fast", target="a:b")]')
    code, line = hookline(tmp_path, "serve", "--dry-run", "--set", 'required_plugins=["fast"]')
    assert code == 1
    assert line.startswith(
        "error: required plugin 'fast' does not load: plugin 'fast' of fake-fast 1.0 is broken: "
        "hookline_attention_backends must offer AttentionBackendSpec, not PoolerSpec: PoolerSpec(name='fast'"
    )


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    offer(tmp_path, "attention_backends", f"[{BACKEND.format('').replace('fast', 'torch_native')}]")
    assert hookline(tmp_path, "serve", "--dry-run") == (
        1,
        "error: attention_backends 'torch_native' is offered by hookline-attention 0.1.0 and fake-fast 1.0; say which "
        'one wins with prefer."attention_backends.torch_native" = "hookline-attention" or "fake-fast", or disable one '
        "of the plugins",
    )


@pytest.mark.parametrize("command", [("serve", "--port", "0", "--config"), ("config", "validate")])
def test_a_section_for_a_plugin_that_is_not_installed(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "hookline.toml"
    file.write_text("[plugins.turbo]\nsize = 3\n")
    code, line = hookline(tmp_path, *command, str(file))
    assert code == 1
    assert (
        "plugins.turbo: no plugin 'turbo' is installed; to install it: pip install hookline-turbo (installed: " in line
    )
    assert line.endswith("; or take the section out of the configuration")


@pytest.mark.parametrize(
    ("kind", "spec", "flag", "base"),
    [
        ("attention_backends", "AttentionBackendSpec", "--attention-backend", "attention.AttentionBackend"),
        ("grammar_backends", "GrammarBackendSpec", "--grammar-backend", "grammar.GrammarBackend"),
        ("reasoning_parsers", "ReasoningParserSpec", "--reasoning-parser", "parsers.ReasoningParser"),
    ],
)
def test_an_implementation_of_the_wrong_type_stops_the_start(
    tmp_path: Path, kind: str, spec: str, flag: str, base: str
) -> None:
    fake = offer(
        tmp_path, kind, f'[{spec}(name="fast", target="PACKAGE.backend:Fast")]', backend="class Fast:\n    pass\n"
    )
    code, line = hookline(tmp_path, "serve", "--port", "0", "--log-level", "error", flag, "fast")
    assert code == 1
    assert line.endswith(
        f"{kind} 'fast' of fake-fast 1.0: its target '{fake.package}.backend:Fast' must be a subclass of "
        f"hookline.interfaces.{base}, but it is a class on object; derive it from {base.partition('.')[2]}; "
        "repair fake-fast, or run without it: --no-plugin fast"
    )
