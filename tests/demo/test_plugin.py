"""What hookline-demo offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hookline.errors import ModelError
from hookline_demo.plugin import PLUGIN, hookline_checkpoint_sources
from hookline_demo.source import DemoCheckpointSource


def test_the_plugin_imports_without_torch() -> None:
    code = "import hookline_demo.plugin, hookline_demo.source, sys; sys.exit('torch' in sys.modules)"
    paths = [path for path in sys.path if path]
    environment = {"PYTHONPATH": ":".join(paths)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_the_demo_is_offered_by_name_and_as_the_default() -> None:
    (spec,) = hookline_checkpoint_sources()
    assert PLUGIN.name == "demo"
    assert spec.default == "demo"
    assert [name for name, _ in spec.checkpoints] == ["demo"]


def test_the_source_knows_the_checkpoint_and_its_adapters() -> None:
    source = DemoCheckpointSource()
    directory = source.locate("demo", revision=None, offline=True)
    assert (directory / "config.json").is_file()
    assert sorted(source.adapters("demo")) == ["number-words", "upper"]


def test_a_revision_is_refused() -> None:
    with pytest.raises(ModelError, match="has no revisions"):
        DemoCheckpointSource().locate("demo", revision="v2", offline=True)
