"""docs/compatibility.md says what the shipped plugins declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.commands.plugins import plugins
from hookline.commands.plugins_matrix import KEPT, render_tree
from tests.factories.distributions import hook, install, only

ROOT = Path(__file__).parents[2]


def test_the_committed_matrix_is_what_the_command_prints() -> None:
    committed = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    declared, mark, measured = committed.partition(f"\n{KEPT}")
    assert mark
    assert "| `qwen25` | 57 |" in measured
    assert declared == render_tree(ROOT / "plugins"), (
        "the declarations have changed; run: hookline plugins matrix --tree plugins --out docs/compatibility.md"
    )


def test_the_matrix_of_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        tmp_path,
        "mine",
        hook(
            "attention_backends",
            '[AttentionBackendSpec(name="fast", target="a:b", features=frozenset({"graphs"}), summary="a <b> | c", '
            'requires=Requirements(devices=frozenset({"cuda"}), min_capability=(9, 0), head_dims=frozenset({64, 128}), '
            'page_sizes=frozenset({16}), packages=("fast-kernels>=2",), config={"cache.enable_prefix_cache": False}), '
            'imposes={"lora_backends": frozenset({"deterministic"})}), '
            'AttentionBackendSpec(name="slow", target="a:b")]',
        ),
        hook("ops", '[OpSetSpec(name="some", target="a:b", ops=frozenset({"rotary"}))]'),
    )
    only(monkeypatch, [tmp_path])
    out = tmp_path / "matrix.md"
    plugins.main(["matrix", "--out", str(out)], standalone_mode=False)
    assert capsys.readouterr().out == ""
    lines = out.read_text().splitlines()
    assert "| mine | fake-mine | attention_backends, ops | 1 |" in lines
    head = "name | plugin | api_version | devices | compute capability | dtypes | head dims | page sizes | packages"
    assert f"| {head} | settings | imposes | what it is |" in lines
    sizes = "`cuda` | 9.0 |  | 64, 128 | 16 | `fast-kernels>=2`"
    settings = "`cache.enable_prefix_cache` = no | `lora_backends` = `deterministic`"
    assert f"| `fast` | mine | 1 | {sizes} | {settings} | a &lt;b> \\| c |" in lines
    assert "| `graphs` | a pass can be captured in a device graph and replayed | yes |  |" in lines
    assert "| `rotary` | yes |" in lines
