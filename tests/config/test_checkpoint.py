"""Locating a checkpoint: names, directories, hub ids, the default, and what is said when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hookline.config.checkpoint import locate_checkpoint, read_chat_template
from hookline.errors import ModelError, PluginError, ResolutionError
from hookline.plugins.manager import load_plugins
from hookline.plugins.registry import Registry
from tests.factories.distributions import hook, install, only, write_checkpoint

SOURCE = """
from pathlib import Path
from hookline.errors import ModelError
from hookline.interfaces.checkpoints import CheckpointSource

class Source(CheckpointSource):
    def locate(self, name, *, revision, offline):
        folder = Path({path!r}) / f"{{name.replace('/', '--')}}@{{revision}}"
        if offline and not folder.is_dir():
            raise ModelError(f"{{name}} is not in the cache")
        folder.mkdir(exist_ok=True)
        return folder
"""


def load_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **offers: str) -> Registry:
    """One plugin per keyword, each with one checkpoint source of the given fields."""
    for plugin, fields in offers.items():
        body = f'[CheckpointSourceSpec(name="{plugin}", target="PACKAGE.source:Source", {fields})]'
        fake = install(tmp_path, plugin, hook("checkpoint_sources", body))
        (tmp_path / fake.package / "source.py").write_text(SOURCE.format(path=str(tmp_path)))
    only(monkeypatch, [tmp_path])
    return load_plugins(strict=False)


LISTED = 'checkpoints=(("tiny", "a small one"),)'
HUB = "claims_ids=True"


def test_a_directory_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_sources(tmp_path, monkeypatch, hub=HUB)
    folder = write_checkpoint(tmp_path / "mine" / "model-1")
    checkpoint = locate_checkpoint(str(folder), registry)
    assert (checkpoint.path, checkpoint.short_name, checkpoint.adapters) == (folder, "model-1", {})
    monkeypatch.chdir(folder.parent)
    assert locate_checkpoint("model-1", registry).path == folder


def test_a_listed_name_wins_over_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_sources(tmp_path, monkeypatch, one=LISTED)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate_checkpoint("tiny", registry).path.name == "tiny@None"
    assert locate_checkpoint("./tiny", registry).path == tmp_path / "tiny"


def test_an_id_goes_to_the_source_that_claims_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_sources(tmp_path, monkeypatch, one=LISTED, hub=HUB)
    checkpoint = locate_checkpoint("org/some-model", registry, revision="v2")
    assert checkpoint.path.name == "org--some-model@v2"
    assert checkpoint.short_name == "some-model"
    with pytest.raises(ModelError, match="org/other is not in the cache"):
        locate_checkpoint("org/other", registry, offline=True)


def test_the_default_serves_when_no_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_sources(tmp_path, monkeypatch, one=f'{LISTED}, default="tiny"', hub=HUB)
    checkpoint = locate_checkpoint(None, registry)
    assert (checkpoint.name, checkpoint.path.name) == ("tiny", "tiny@None")
    assert "the default of fake-one 1.0" in checkpoint.reason


def test_two_defaults_need_a_preference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_sources(tmp_path, monkeypatch, one='default="a"', two='default="b"')
    with pytest.raises(
        PluginError, match=r"checkpoint_sources 'default' is offered by fake-one 1\.0 and fake-two 1\.0"
    ):
        locate_checkpoint(None, registry)
    preferring = load_plugins(prefer={"checkpoint_sources.default": "fake-two"})
    assert locate_checkpoint(None, preferring).name == "b"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (None, "no model was named, and no plugin brings a default one.*pip install hookline-demo"),
        ("/nowhere/model", "there is no directory '/nowhere/model'"),
        ("./model", r"there is no directory '\./model' \(seen from /"),
        ("tny", r"unknown checkpoint 'tny'; did you mean 'tiny'\? \(known names: tiny\)"),
        ("a/b/c", r"'a/b/c' is neither a directory nor of the form of a hub id"),
        ("what is this?", "neither a directory nor of the form of a hub id"),
    ],
)
def test_a_checkpoint_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, sentence: str
) -> None:
    registry = load_sources(tmp_path, monkeypatch, one=LISTED, hub=HUB)
    with pytest.raises(ModelError, match=sentence):
        locate_checkpoint(name, registry)


def test_a_file_is_not_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_sources(tmp_path, monkeypatch, hub=HUB)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model\.safetensors' is a file; name the directory"):
        locate_checkpoint(str(tmp_path / "model.safetensors"), registry)


def test_without_a_source_for_ids_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_sources(tmp_path, monkeypatch, one=LISTED)
    with pytest.raises(ModelError, match=r"no plugin loads hub ids.*pip install hookline-models"):
        locate_checkpoint("org/model", registry)


def test_a_source_that_lacks_its_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = f'{HUB}, requires=Requirements(packages=("no-such-package>=1",))'
    registry = load_sources(tmp_path, monkeypatch, hub=fields)
    with pytest.raises(ResolutionError, match="needs the package no-such-package>=1, which is not installed"):
        locate_checkpoint("org/model", registry)


def test_chat_templates_are_found_where_checkpoints_keep_them(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path, None) == ""
    config = tmp_path / "tokenizer_config.json"
    config.write_text(
        json.dumps({"chat_template": [{"name": "default", "template": "A"}, {"name": "t", "template": "B"}]})
    )
    assert read_chat_template(tmp_path, None) == "A\nB"
    config.write_text(json.dumps({"chat_template": 'say "hi"'}))
    assert read_chat_template(tmp_path, None) == 'say "hi"'
    (tmp_path / "chat_template.jinja").write_text("C")
    assert read_chat_template(tmp_path, None) == "C"
    (tmp_path / "own.jinja").write_text("D")
    assert read_chat_template(tmp_path, str(tmp_path / "own.jinja")) == "D"
    with pytest.raises(ModelError, match="cannot read"):
        read_chat_template(tmp_path, str(tmp_path / "gone.jinja"))
