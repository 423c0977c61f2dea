"""``hookline plugins check``: what it finds, whom it blames, and what it only tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hookline.cli import main
from hookline.config.device import DeviceFacts
from hookline.config.schema import HooklineConfig
from hookline.deprecations import Deprecation, Deprecations
from hookline.plugins.check import CheckReport, check_plugins
from hookline.plugins.manager import load_plugins
from tests.factories.distributions import FakeDistribution, hook, install, only

HOPPER = DeviceFacts(has_cuda=True, capability=(9, 0), reason="a test")
NO_GPU = DeviceFacts(has_cuda=False, reason="a test")
POOLER = """
from hookline.interfaces.pooling import Pooler

class Good(Pooler):
    def update(self, hidden_TH, is_first, is_last):
        pass

    def result(self):
        pass

class Half(Pooler):
    def result(self):
        pass

class Other:
    pass

instance = Other()
"""


class Bench:
    """Plugins in a folder, checked without a device."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        only(monkeypatch, [folder])

    def install(self, plugin: str, kind: str, body: str, *, info: str = "", **options: Any) -> FakeDistribution:
        """A plugin with one hook; its targets are in PACKAGE.impl."""
        provides = f'provides=("{kind}",)' + (f", {info}" if info else "")
        fake = install(self._folder, plugin, hook(kind, body), info=provides, **options)
        (self._folder / fake.package / "impl.py").write_text(POOLER)
        return fake

    def check(self, *, facts: DeviceFacts = NO_GPU, **options: Any) -> CheckReport:
        """The report on all of them, or the plugin ``name``; keywords of the configuration go to ``config``."""
        config = HooklineConfig(**options.pop("config", {}))
        registry = load_plugins(config, strict=False, deprecations=options.pop("deprecations", None))
        return check_plugins(registry, config, facts=facts, **options)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as info:
        main(["plugins", "check", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(info.value.code, int)
    return info.value.code, out, err


# --- the command ---


def test_a_sound_plugin_is_reported_line_by_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.install(
        "good",
        "poolers",
        '[PoolerSpec(name="plain", target="PACKAGE.impl:Good"), PoolerSpec(name="gpu", target="PACKAGE.impl:Good", '
        'requires=Requirements(devices=frozenset({"cuda"}), packages=("no-such-package>=2",)))]',
    )
    code, out, err = run(capsys, "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "good           fake-good 1.0: ok (contract checked)",
        "  plugin contract 1, no options",
        "  poolers 'plain': contract 1, can run here",
        "  poolers 'gpu': contract 1, cannot run here",
        "    runs on cuda, the device is cpu; it would take: a machine with cuda, or --device cuda where it has one",
        "    needs the package no-such-package>=2, which is not installed; it would take: "
        "pip install 'no-such-package>=2'",
    ]
    code, out, err = run(capsys, "good", "--load", "--device", "cpu")
    assert (code, err) == (0, "")
    assert "  poolers 'plain': contract 1, imports, can run here" in out
    assert "  poolers 'gpu': contract 1, cannot run here" in out, "not imported: its package is not there"
    assert run(capsys, "goood")[0] == 1


def test_json_holds_the_whole_report(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.install("good", "poolers", '[PoolerSpec(name="plain", target="PACKAGE.impl:Other")]')
    code, out, _ = run(capsys, "--json", "--load")
    report = json.loads(out)
    assert code == 1
    assert report["ok"] is False
    (plugin,) = report["plugins"]
    assert (plugin["name"], plugin["status"], plugin["offers"][0]["is_imported"]) == ("good", "failed", False)
    assert "must be a subclass of hookline.interfaces.pooling.Pooler" in plugin["offers"][0]["faults"][0]


# --- what is wrong with a plugin ---


@pytest.mark.parametrize(
    ("attribute", "fault"),
    [
        ("Other", "must be a subclass of hookline.interfaces.pooling.Pooler, but it is a class on object; derive it"),
        ("instance", "must be a subclass of hookline.interfaces.pooling.Pooler, but it is <fake_package_"),
        ("Half", "is not whole: Pooler asks for update, which it does not define"),
        ("Missing", "does not load from"),
    ],
)
def test_implementations_that_are_not_what_their_kind_calls(bench: Bench, attribute: str, fault: str) -> None:
    bench.install("bad", "poolers", f'[PoolerSpec(name="x", target="PACKAGE.impl:{attribute}")]')
    assert bench.check().faults == []
    (found,) = bench.check(load=True).faults
    assert found.startswith("poolers 'x' of fake-bad 1.0")
    assert fault in found


def test_op_sets_are_callables(bench: Bench) -> None:
    body = '[OpSetSpec(name=n, target=f"PACKAGE.impl:{n}") for n in ("Other", "POOLS")]'
    fake = bench.install("bad", "ops", body)
    with (Path(fake.folder) / fake.package / "impl.py").open("a") as file:
        file.write("POOLS = {}\n")
    (found,) = bench.check(load=True).faults
    assert "its target 'fake_package_" in found
    assert "must be callable, but it is {}" in found


@pytest.mark.parametrize(
    ("kind", "body", "fault"),
    [
        (
            "attention_backends",
            'AttentionBackendSpec(name="x", target="a:b", features=frozenset({"mask.trees"}))',
            "declares the feature 'mask.trees', which attention_backends do not have in this core; did you mean "
            "'mask.tree'? (known: deterministic,",
        ),
        (
            "poolers",
            'PoolerSpec(name="x", target="a:b", imposes={"lora_backends": frozenset({"graphs"})})',
            "imposes the feature 'graphs', which lora_backends do not have",
        ),
        (
            "poolers",
            'PoolerSpec(name="x", target="a:b", requires=Requirements(config={"cache.page_sise": 1}))',
            "requires a value of 'cache.page_sise', which is no setting; did you mean 'cache.page_size'?",
        ),
        ("poolers", 'PoolerSpec(name="x", target="a:b", api_version=3)', "this core speaks 1; upgrade hookline-core"),
        ("models", 'ModelSpec(name="x", target="a:b")', "names no architectures"),
        (
            "models",
            'ModelSpec(name="x", target="a:b", architectures=("A",), defaults={"output.reasoning": "think"})',
            "sets a default for 'output.reasoning', which is no setting; did you mean 'output.reasoning_parser'?",
        ),
        ("api_families", 'ApiFamilySpec(name="x", target="a:b")', "declares no paths"),
        (
            "api_families",
            'ApiFamilySpec(name="x", target="a:b", paths=("/api/chat",), open_paths=("/api/chats",))',
            "sets the access of '/api/chats', which is not in its paths; did you mean '/api/chat'?",
        ),
    ],
)
def test_faults_of_a_contract(bench: Bench, kind: str, body: str, fault: str) -> None:
    bench.install("bad", kind, f"[{body}]")
    (found,) = bench.check().faults
    assert found.startswith(f"{kind} 'x' of fake-bad 1.0 ")
    assert fault in found


def test_kinds_that_are_not_listed_or_do_not_exist(bench: Bench, tmp_path: Path) -> None:
    install(tmp_path, "bad", hook("poolers", "[PoolerSpec(name='x', target='a:b')]"), info='provides=("pooler",)')
    assert bench.check().faults == [
        "plugin 'bad' of fake-bad offers poolers, which its PLUGIN does not list; add it to provides",
        "plugin 'bad' of fake-bad lists 'pooler' in provides, which is no kind; did you mean 'poolers'?",
    ]


def test_options_that_do_not_load(bench: Bench) -> None:
    bench.install("bad", "poolers", "[]", info='config_model="PACKAGE.impl:Nothing"')
    (fault,) = bench.check().faults
    assert "the options of plugin 'bad' of fake-bad 1.0 do not load from" in fault


def test_a_broken_plugin_is_a_fault_of_its_own_only(bench: Bench, tmp_path: Path) -> None:
    install(tmp_path, "bad", "@hookimpl\ndef hookline_poolrs():\n    return []\n")
    bench.install("good", "poolers", "[]")
    report = bench.check()
    assert {plugin.name: plugin.status for plugin in report.plugins} == {"good": "ok", "bad": "broken"}
    assert any("unknown hook 'hookline_poolrs'; did you mean 'hookline_poolers'?" in fault for fault in report.faults)
    assert bench.check(name="bad").faults == report.faults
    assert bench.check(name="good").faults == []


def test_a_disabled_plugin_is_told_and_not_judged(bench: Bench, tmp_path: Path) -> None:
    install(tmp_path, "off", preamble="raise ImportError('must not be imported')")
    bench.install("good", "poolers", "[]")
    report = bench.check(config={"disabled_plugins": ["off"]})
    assert {plugin.name: plugin.status for plugin in report.plugins} == {"good": "ok", "off": "disabled"}
    assert report.faults == []


def test_what_is_deprecated_is_told_and_no_fault_yet(bench: Bench) -> None:
    entry = Deprecation(subject="hook", name="hookline_poolers", since="0.2", removed="0.3", instead="do without")
    bench.install("old", "poolers", "[]")
    (plugin,) = bench.check(deprecations=Deprecations([entry], version="0.2.0")).plugins
    assert plugin.status == "ok"
    (sentence,) = plugin.deprecated
    assert sentence.endswith("will be refused by 0.3; do without")
    (plugin,) = bench.check(deprecations=Deprecations([entry], version="0.3.0")).plugins
    assert plugin.status == "broken"


# --- what this machine lacks ---


@pytest.mark.parametrize(
    ("requires", "options", "remedies"),
    [
        ('devices=frozenset({"cuda"})', {}, ["a machine with cuda, or --device cuda where it has one"]),
        ('devices=frozenset({"cuda"})', {"facts": HOPPER}, []),
        ('devices=frozenset({"cpu"})', {"facts": HOPPER}, ["a machine with cpu, or --device cpu where it has one"]),
        ("min_capability=(10, 0)", {"facts": HOPPER}, ["a GPU of compute capability 10.0 or newer"]),
        ('packages=("pluggy>=99",)', {}, ["pip install 'pluggy>=99'"]),
        ('config={"cache.page_size": 16}', {"config": {"cache": {"page_size": 1}}}, ["--set cache.page_size=16"]),
        ("page_sizes=frozenset({16})", {"config": {"cache": {"page_size": 1}}}, ["--page-size 16, or auto"]),
        ('dtypes=frozenset({"float16"})', {"config": {"model": {"dtype": "float32"}}}, ["--dtype float16"]),
        # What only a model or an engine's start decides refuses nobody here.
        ('config={"cache.page_size": 16}, head_dims=frozenset({8}), dtypes=frozenset({"float16"})', {}, []),
    ],
)
def test_what_it_would_take(bench: Bench, requires: str, options: dict[str, Any], remedies: list[str]) -> None:
    bench.install("good", "poolers", f'[PoolerSpec(name="x", target="a:b", requires=Requirements({requires}))]')
    report = bench.check(**options)
    assert report.faults == []
    assert [item.remedy for item in report.plugins[0].offers[0].unmet] == remedies


# --- conflicts ---

MODEL = '[ModelSpec(name="{0}", target="a:b", architectures=("A",))]'
SOURCE = '[CheckpointSourceSpec(name="{0}", target="a:b", checkpoints=(("demo", "a fake"),), default="demo")]'


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [
        ("poolers", '[PoolerSpec(name="same", target="a:b")]', "poolers.same"),
        ("models", MODEL, "models.A"),
        ("checkpoint_sources", SOURCE, "checkpoint_sources.demo"),
    ],
)
def test_what_two_plugins_claim(bench: Bench, kind: str, body: str, key: str) -> None:
    for plugin in ("one", "two"):
        bench.install(plugin, kind, body.format(plugin))
    bench.install("other", "poolers", "[]")
    sentence = f"{key.replace('.', chr(32) + chr(39))}' is offered by fake-"
    for name in (None, "one", "two"):
        assert any(fault.startswith(sentence) for fault in bench.check(name=name).faults)
    assert bench.check(name="other").faults == []
    preferred = {key: "fake-two", "checkpoint_sources.default": "fake-two"}
    if kind != "checkpoint_sources":
        preferred.popitem()
    report = bench.check(config={"prefer": preferred})
    assert report.faults == []
    notes = [note for plugin in report.plugins for note in plugin.notes]
    assert (
        f'{key.replace(".", chr(32) + chr(39))}\' of fake-two 1.0 wins over that of fake-one 1.0, by prefer."{key}"'
        in notes
    )


def test_a_preference_for_what_nobody_claims(bench: Bench) -> None:
    bench.install("one", "models", MODEL.format("one"))
    (fault,) = bench.check(config={"prefer": {"models.B": "fake-one"}}).faults
    assert fault == "prefer: unknown name or claim of models 'B' (known: A, one)"


def test_paths_of_two_families_exclude_each_other_only_where_both_are_served(bench: Bench) -> None:
    bench.install("one", "api_families", '[ApiFamilySpec(name="a", target="a:b", paths=("/x/{id}", "/y"))]')
    bench.install("two", "api_families", '[ApiFamilySpec(name="b", target="a:b", paths=("/x/{name}",))]')
    report = bench.check()
    assert report.faults == []
    sentence = "api_families 'a' of fake-one 1.0 and 'b' of fake-two 1.0 both serve /x/{}; "
    assert [plugin.notes for plugin in report.plugins] == [[f"{sentence}no server can have both"]] * 2
    assert bench.check(config={"server": {"api_families": ["a", "b"]}}).faults == [
        f"{sentence}list only one of them in server.api_families"
    ]
