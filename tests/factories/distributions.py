"""Plugin distributions made on the spot: installed ones (dist-info) and source trees (pyproject.toml)."""

from __future__ import annotations

import itertools
import json
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

_numbers = itertools.count()

#: What every module of a fake plugin begins with.
PREAMBLE = """
from hookline.interfaces.spec import PluginInfo, Requirements
from hookline.plugins.hookspecs import hookimpl
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.checkpoints import CheckpointSourceSpec
from hookline.interfaces.grammar import GrammarBackendSpec
from hookline.interfaces.kernels import OpSetSpec
from hookline.interfaces.logits import LogitsProcessorSpec
from hookline.interfaces.lora import LoRABackendSpec
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.parsers import FunctionCallParserSpec, ReasoningParserSpec
from hookline.interfaces.pooling import PoolerSpec
from hookline.interfaces.scheduling import SchedulePolicySpec, SchedulerSpec
"""


@dataclass(frozen=True)
class FakeDistribution:
    """Where a fake plugin lies."""

    name: str
    #: Import package; unique, so that tests never meet each other's modules.
    package: str
    #: The folder that is, or must come, on sys.path.
    folder: Path


def hook(kind: str, body: str) -> str:
    """Source of a hook implementation that returns or yields ``body``."""
    statement = body if body.lstrip().startswith(("raise", "yield", "for", "return")) else f"return {body}"
    return f"@hookimpl\ndef hookline_{kind}():\n{textwrap.indent(textwrap.dedent(statement), '    ')}\n"


def install(
    folder: Path,
    plugin: str,
    *hooks: str,
    distribution: str | None = None,
    version: str = "1.0",
    info: str = "",
    preamble: str = PREAMBLE,
) -> FakeDistribution:
    """Write a package with a plugin module and a dist-info folder into ``folder``, as pip would."""
    name = distribution or f"fake-{plugin}"
    package = _write_package(folder, plugin, hooks, info, preamble)
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[hookline]\n{plugin} = {package}.plugin\n")
    return FakeDistribution(name=name, package=package, folder=folder)


def add_to_tree(
    tree: Path, plugin: str, *hooks: str, distribution: str | None = None, version: str = "1.0"
) -> FakeDistribution:
    """Write a distribution in source form, ``tree/<plugin>``, as it lies in a repository."""
    name = distribution or f"fake-{plugin}"
    folder = tree / name
    folder.mkdir(parents=True)
    package = _write_package(folder, plugin, hooks, "", PREAMBLE)
    (folder / "version.py").write_text(f'__version__ = "{version}"\n')
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\ndynamic = ["version"]\n'
        f'[project.entry-points.hookline]\n{plugin} = "{package}.plugin"\n'
        '[tool.hatch.version]\npath = "version.py"\n'
    )
    return FakeDistribution(name=name, package=package, folder=folder)


def only(monkeypatch: pytest.MonkeyPatch, folders: Iterable[Path] = ()) -> None:
    """Hide every installed distribution but those in ``folders``.

    What the code under test needs is imported already, so site-packages can leave sys.path for a while.
    """
    kept = [path for path in sys.path if "site-packages" not in path and not Path(path, "pyproject.toml").is_file()]
    monkeypatch.setattr(sys, "path", [*map(str, folders), *kept, *_core_folder()])
    monkeypatch.delenv("HOOKLINE_SOURCE_TREE", raising=False)


def write_checkpoint(folder: Path, architecture: str = "FakeForCausalLM", **values: object) -> Path:
    """A directory with a small config.json and no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": [architecture],
        "model_type": "fake",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 100,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "dtype": "bfloat16",
        **values,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _write_package(folder: Path, plugin: str, hooks: Iterable[str], info: str, preamble: str) -> str:
    package = f"fake_package_{next(_numbers)}"
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text("")
    source = f'{preamble}\nPLUGIN = PluginInfo(name="{plugin}"{", " + info if info else ""})\n\n' + "\n\n".join(hooks)
    (folder / package / "plugin.py").write_text(source.replace("PACKAGE", package))
    return package


def _core_folder() -> list[str]:
    import hookline

    return [str(Path(hookline.__file__).parent.parent)]
