"""``hookline plugins``: listings, checks, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hookline.cli import main
from tests.factories.distributions import hook, install, only
from tests.factories.plugin_bench import PluginBench

GOOD = hook("poolers", '[PoolerSpec(name="good", target="PACKAGE.impl:Good", summary="a pooler")]')


class Terminal:
    """Runs command lines in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def run(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as info:
            main(arguments)
        self.out, self.err = self._capsys.readouterr()
        assert isinstance(info.value.code, int)
        return info.value.code

    def json(self, *arguments: str) -> Any:
        assert self.run(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def test_list_shows_loaded_broken_and_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    install(tmp_path, "good", GOOD)
    install(tmp_path, "bad", preamble="raise ImportError('no libfoo')")
    install(tmp_path, "off")
    only(monkeypatch, [tmp_path])
    assert terminal.run("plugins", "list", "--no-plugin", "off") == 0
    rows = {line.split()[0]: line for line in terminal.out.splitlines()}
    assert "fake-good 1.0" in rows["good"]
    assert rows["good"].endswith("poolers: good")
    assert rows["off"].endswith("disabled")
    assert "broken: importing" in rows["bad"]
    assert "ImportError: no libfoo" in rows["bad"]
    statuses = {plugin["name"]: plugin["status"] for plugin in terminal.json("plugins", "list")["plugins"]}
    assert statuses == {"good": "loaded", "bad": "broken", "off": "loaded"}


def test_list_with_no_plugin_is_an_error_with_both_remedies(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    only(monkeypatch)
    assert terminal.run("plugins", "list") == 1
    assert terminal.err.startswith("error: no plugin was found")
    assert "pip install hookline" in terminal.err
    assert "HOOKLINE_SOURCE_TREE=plugins" in terminal.err


def test_no_plugins_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    assert terminal.run("plugins", "list", "--no-plugins") == 1
    assert "every installed plugin is disabled" in terminal.err


def test_show_tells_offers_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    fake = install(tmp_path, "good", GOOD, info='config_model="PACKAGE.options:Options"')
    (tmp_path / fake.package / "options.py").write_text(
        "from pydantic import BaseModel, Field\n"
        "class Options(BaseModel):\n    size: int = Field(4, description='how big')\n"
    )
    only(monkeypatch, [tmp_path])
    assert terminal.run("plugins", "show", "good") == 0
    assert "poolers 'good'  a pooler" in terminal.out
    assert "plugins.good.size  how big [4]" in terminal.out
    described = terminal.json("plugins", "show", "good")
    assert described["offers"][0]["target"] == f"{fake.package}.impl:Good"
    assert terminal.run("plugins", "show", "goood") == 1
    assert "did you mean 'good'?" in terminal.err
    assert terminal.run("config", "show", "--help", "plugins") == 0
    assert "--set plugins.good.size=VALUE  how big [4]" in terminal.out
    assert terminal.run("config", "schema") == 0
    assert json.loads(terminal.out)["properties"]["plugins"]["properties"]["good"]["properties"]["size"]["default"] == 4


def test_why_prints_the_choice_and_every_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    bench = PluginBench(tmp_path, monkeypatch)
    bench.offer(
        "attention_backends",
        '[AttentionBackendSpec(name="fast", target="PACKAGE:A", requires=Requirements(devices=frozenset({"cuda"}))), '
        'AttentionBackendSpec(name="spare", target="PACKAGE:A", priority=-1)]',
    )
    model = ("--model", str(bench.checkpoint), "--device", "cpu")
    assert terminal.run("plugins", "why", "attention_backends", *model) == 0
    assert terminal.out.splitlines() == [
        "attention_backends (attention.attention_backend): the best that fits, by priority",
        "+ plain  fake-basis 1.0  chosen",
        "  spare  fake-mine 1.0   fits, not needed",
        "- fast   fake-mine 1.0   runs on cuda, the device is cpu",
    ]
    answer = terminal.json("plugins", "why", "attention_backends", *model)
    assert [offer["name"] for offer in answer["chosen"]] == ["plain"]
    assert answer["refused"] == {"fast": ["runs on cuda, the device is cpu"]}
    assert terminal.run("plugins", "why", "attention", *model) == 1
    assert "did you mean 'attention_backends'?" in terminal.err
