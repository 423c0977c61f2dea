"""What goes wrong with plugins: each fault has its sentence, which names the distribution, and spares the rest."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hookline.config.schema import HooklineConfig
from hookline.errors import PluginError
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.pooling import PoolerSpec
from hookline.plugins.manager import load_plugins
from hookline.plugins.plan import PluginPlan
from hookline.plugins.registry import Registry
from hookline.plugins.resolve import choose
from tests.factories.distributions import PREAMBLE, add_to_tree, hook, install, only

GOOD = hook("poolers", '[PoolerSpec(name="good", target="PACKAGE.impl:Good")]')
GOOD_TARGET = """
from hookline.interfaces.pooling import Pooler

class Good(Pooler):
    def update(self, hidden_TH, is_first, is_last):
        pass

    def result(self):
        pass
"""


def names(registry: Registry) -> list[str]:
    return [offer.spec.name for offer in registry.offers(PoolerSpec)]


def load_beside_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Load what lies in ``tmp_path`` together with a plugin that works, which must survive."""
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    registry = load_plugins()
    assert names(registry) == ["good"]
    return registry


def reason(registry: Registry, name: str = "bad") -> str:
    (broken,) = [plugin for plugin in registry.broken if plugin.name == name]
    text = str(broken)
    assert f"plugin '{name}' of fake-{name} 1.0 is broken" in text
    return text


@pytest.mark.parametrize("statement", ["raise ImportError('no libfoo')", "import not_there_at_all", "exit(3)", "1/0"])
def test_raising_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    install(tmp_path, "bad", preamble=statement + PREAMBLE)
    with caplog.at_level(logging.WARNING):
        registry = load_beside_a_good_one(tmp_path, monkeypatch)
    text = reason(registry)
    assert "importing fake_package_" in text
    # One warning, and the listing has the same sentence.
    assert [record.getMessage() for record in caplog.records] == [f"{text}; it is left out"]


def test_wrong_api_version_of_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", info="api_version=7")
    text = reason(load_beside_a_good_one(tmp_path, monkeypatch))
    assert "version 7 of the plugin contract, this core speaks 1; upgrade hookline-core" in text


def test_too_old_api_version_asks_to_upgrade_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", info="api_version=0")
    assert "upgrade fake-bad" in reason(load_beside_a_good_one(tmp_path, monkeypatch))


def test_no_plugin_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", "del PLUGIN")
    assert "has no PLUGIN = PluginInfo" in reason(load_beside_a_good_one(tmp_path, monkeypatch))


def test_name_that_is_not_the_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", 'PLUGIN = PluginInfo(name="other")')
    text = reason(load_beside_a_good_one(tmp_path, monkeypatch))
    assert "entry point is called 'bad', its PLUGIN.name is 'other'" in text


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("raise ValueError('boom')", "hookline_poolers failed: ValueError: boom"),
        ("[3]", "hookline_poolers must offer PoolerSpec, not int: 3"),
        ('[AttentionBackendSpec(name="x", target="a:b")]', "must offer PoolerSpec, not AttentionBackendSpec"),
        ("None", "hookline_poolers returned None; return a list of PoolerSpec, or yield them"),
        ('[PoolerSpec(name="a b", target="a:b")]', "offers the name 'a b'"),
        ('[PoolerSpec(name="x", target="no_colon")]', "has the target 'no_colon'; write it as"),
        ('[PoolerSpec(name="x", target=print)]', "has the target <built-in function print>"),
        ('[PoolerSpec(name="x", target="a:b", features="graphs")]', "features = 'graphs', which must be of type froz"),
        ('[PoolerSpec(name="x", target="a:b", priority="9")]', "priority = '9', which must be of type int"),
        ('[PoolerSpec(name="x", target="a:b", api_version="1")]', "api_version = '1', which must be of type int"),
        (
            '[PoolerSpec(name="x", target="a:b", needs_all_tokens=1)]',
            "needs_all_tokens = 1, which must be of type bool",
        ),
        (
            '[PoolerSpec(name="x", target="a:b", requires=Requirements(packages="triton"))]',
            "Requirements(...) has packages = 'triton', which must be of type tuple[str, ...]; write ('triton',)",
        ),
        (
            '[PoolerSpec(name="x", target="a:b", prebuild="builds")]',
            "has prebuild = 'builds'; write it as 'package.module:function', or ''",
        ),
        (
            '[PoolerSpec(name="x", target="a:b", requires=Requirements(packages=("triton >>",)))]',
            "requires the package 'triton >>'; write it as 'name>=1.0'",
        ),
        (
            '[PoolerSpec(name="x", target="a:b", need_all_tokens=True)]',
            "PoolerSpec has no field 'need_all_tokens' in this core; did you mean 'needs_all_tokens'? (known: name",
        ),
        ('[PoolerSpec(name="x", target="a:b", imposes={"atention_backends": frozenset()})]', "did you mean 'att"),
        ('[PoolerSpec(name="x", target="a:b", requires="cuda")]', "requires 'cuda'; use Requirements(...)"),
        ('[PoolerSpec(name="x", target="a:b")] * 2', "offers 'x' twice"),
    ],
)
def test_wrong_offers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, sentence: str) -> None:
    install(tmp_path, "bad", hook("poolers", body))
    assert sentence in reason(load_beside_a_good_one(tmp_path, monkeypatch))


def test_a_generator_that_fails_half_way_loses_all_offers_of_its_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        tmp_path,
        "bad",
        hook("attention_backends", '[AttentionBackendSpec(name="early", target="a:b")]'),
        hook("poolers", 'yield PoolerSpec(name="first", target="a:b")\nraise RuntimeError("half-way")'),
    )
    registry = load_beside_a_good_one(tmp_path, monkeypatch)
    assert "RuntimeError: half-way" in reason(registry)
    assert registry.offers(AttentionBackendSpec) == ()


def test_misspelt_hook_stops_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", "@hookimpl\ndef hookline_poolrs():\n    return []\n")
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    with pytest.raises(
        PluginError,
        match=r"plugin 'bad' of fake-bad 1\.0: unknown hook 'hookline_poolrs'; did you mean 'hookline_poolers'",
    ):
        load_plugins()
    registry = load_plugins(strict=False)
    assert names(registry) == ["good"]
    assert "hookline_poolrs" in reason(registry)


def test_hook_without_its_marker_stops_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", "def hookline_poolers():\n    return []\n")
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match=r"fake-bad 1\.0: function hookline_poolers lacks @hookimpl"):
        load_plugins()


def test_hook_with_an_argument_that_core_does_not_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", "@hookimpl\ndef hookline_poolers(engine):\n    return []\n")
    text = reason(load_beside_a_good_one(tmp_path, monkeypatch))
    assert "its hooks do not fit" in text
    assert "engine" in text


def test_hook_wrappers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", "@hookimpl(wrapper=True)\ndef hookline_poolers():\n    return (yield)\n")
    assert "hookline_poolers is a hook wrapper" in reason(load_beside_a_good_one(tmp_path, monkeypatch))


def test_two_plugins_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "twin", GOOD, distribution="first-dist", version="1.0")
    install(tmp_path, "twin", GOOD.replace('"good"', '"second"'), distribution="second-dist", version="2.0")
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError) as info:
        load_plugins()
    assert "plugin 'twin' is provided by first-dist 1.0 and second-dist 2.0" in str(info.value)
    assert 'prefer."plugins.twin" = "first-dist" or "second-dist"' in str(info.value)
    assert names(load_plugins(prefer={"plugins.twin": "second-dist"})) == ["second"]
    (problem,) = load_plugins(prefer={"plugins.twin": "third"}, strict=False).problems
    assert "but not by 'third'" in problem
    (problem,) = load_plugins(prefer={"plugins.twin": "first-dist", "plugins.twn": "x"}, strict=False).problems
    assert "no plugin 'twn' is installed; did you mean 'twin'?" in problem
    assert len(load_plugins(disabled=["twin"], strict=False).disabled) == 2


def test_two_specs_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "one", GOOD)
    install(tmp_path, "two", GOOD)
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match=r"poolers 'good' is offered by fake-one 1\.0 and fake-two 1\.0; say which"):
        load_plugins()
    config = HooklineConfig(prefer={"poolers.good": "Fake_Two"})
    (offer,) = load_plugins(config).offers(PoolerSpec)
    assert offer.distribution == "fake-two"


def test_the_prefix_of_distributions_makes_no_near_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "api", distribution="hookline-api")
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match=r"'hookline-policy' is not installed; pip install 'hookline-policy'$"):
        load_plugins(required=["hookline-policy"])
    with pytest.raises(PluginError, match=r"; did you mean 'api'\? If not, pip install 'hookline-apis'$"):
        load_plugins(required=["hookline-apis"])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("absent>=1", r"required plugin 'absent>=1' is not installed; pip install 'hookline-absent>=1'"),
        ("goood", r"required plugin 'goood' is not installed; did you mean 'good'"),
        ("good>=2", r"required plugin 'good>=2' is not met: fake-good 1.0 is installed; pip install 'fake-good>=2'"),
        ("bad", r"required plugin 'bad' does not load: plugin 'bad' of fake-bad 1.0 is broken"),
        ("off", r"required plugin 'off' of fake-off 1.0 is disabled by the configuration"),
        ("not a requirement!", r"'not a requirement!' is not a requirement like"),
    ],
)
def test_required_plugin_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, sentence: str) -> None:
    install(tmp_path, "good", GOOD)
    install(tmp_path, "bad", preamble="raise ImportError('gone')")
    install(tmp_path, "off")
    only(monkeypatch, [tmp_path])
    config = HooklineConfig(required_plugins=[line], disabled_plugins=["off"])
    with pytest.raises(PluginError) as info:
        load_plugins(config)
    assert sentence in str(info.value)


def test_required_plugins_that_are_there_pass_by_plugin_or_distribution_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    assert load_plugins(required=["good", "fake-good>=1,<2", "Fake_Good==1.0"]).problems == ()


def test_disabled_plugin_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = install(tmp_path, "bad", preamble="raise ImportError('must not be imported')")
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    registry = load_plugins(HooklineConfig(disabled_plugins=["bad"]))
    assert [plugin.name for plugin in registry.disabled] == ["bad"]
    assert registry.broken == ()
    assert f"{bad.package}.plugin" not in sys.modules
    with pytest.raises(PluginError, match=r"plugin 'bad' of fake-bad 1\.0 is disabled by the configuration"):
        registry.plugin("bad")


def test_disabling_a_misspelt_name_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match=r"names 'goood', which is not installed; did you mean 'good'"):
        load_plugins(disabled=["goood"])
    # A name like none here belongs to a file that several machines share.
    assert load_plugins(disabled=["something-else"]).problems == ()


def test_disabling_all_leaves_nothing_to_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match="every installed plugin is disabled"):
        load_plugins(disabled=["*"])


def test_zero_plugins_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    with pytest.raises(PluginError) as info:
        load_plugins()
    assert "pip install hookline" in str(info.value)
    assert "HOOKLINE_SOURCE_TREE=plugins" in str(info.value)


def test_zero_working_plugins_names_the_broken_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "bad", preamble="raise ImportError('gone')")
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match=r"no plugin was found \(plugin 'bad' of fake-bad 1\.0 is broken"):
        load_plugins()


def test_all_problems_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError) as info:
        load_plugins(required=["absent", "good>=9"], disabled=["goood"])
    assert len(str(info.value).splitlines()) == 3


def child(plan: PluginPlan) -> subprocess.CompletedProcess[str]:
    """Load the plan's first choice in a new process, which gets the plan as bytes and nothing else."""
    program = (
        "import sys, msgspec; from hookline.plugins.plan import PluginPlan; "
        "plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=PluginPlan); print(plan.load(plan.chosen[0]))"
    )
    core = str(Path(__file__).parents[2] / "core")
    answer = subprocess.run(
        [sys.executable, "-c", program],
        input=msgspec.msgpack.encode(plan),
        capture_output=True,
        env={"PYTHONPATH": core, "PATH": "/usr/bin:/bin"},
        check=False,
    )
    return subprocess.CompletedProcess(answer.args, answer.returncode, answer.stdout.decode(), answer.stderr.decode())


def plan_of(registry: Registry) -> PluginPlan:
    return PluginPlan(
        chosen=[choose(offer) for offer in registry.offers(PoolerSpec)], source_paths=registry.source_paths
    )


def test_a_child_loads_what_the_plan_says_without_discovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = add_to_tree(tmp_path, "good", GOOD)
    (fake.folder / fake.package / "impl.py").write_text(GOOD_TARGET)
    only(monkeypatch)
    answer = child(plan_of(load_plugins(source_tree=[tmp_path])))
    assert answer.stdout.strip() == f"<class '{fake.package}.impl.Good'>", answer.stderr


def test_failing_only_in_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = add_to_tree(tmp_path, "good", GOOD)
    (fake.folder / fake.package / "impl.py").write_text(
        "import os\n"
        f"if os.getpid() != {__import__('os').getpid()}:\n    raise RuntimeError('no device in this process')\n"
        + GOOD_TARGET
    )
    only(monkeypatch)
    plan = plan_of(load_plugins(source_tree=[tmp_path]))
    assert plan.load(plan.chosen[0]).__name__ == "Good"
    answer = child(plan)
    assert answer.returncode != 0
    assert (
        f"PluginError: poolers 'good' of fake-good 1.0 does not load from '{fake.package}.impl:Good': "
        "RuntimeError: no device in this process"
    ) in answer.stderr


def test_a_child_refuses_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = add_to_tree(tmp_path, "good", GOOD, version="1.0")
    (fake.folder / fake.package / "impl.py").write_text("Good = 1\n")
    only(monkeypatch)
    plan = plan_of(load_plugins(source_tree=[tmp_path]))
    (fake.folder / "version.py").write_text('__version__ = "1.1"\n')
    answer = child(plan)
    assert answer.returncode != 0
    assert "was chosen from fake-good 1.0, but in this process fake-good 1.1 is installed" in answer.stderr


def test_a_child_refuses_a_distribution_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "good", GOOD)
    only(monkeypatch, [tmp_path])
    answer = child(plan_of(load_plugins()))
    assert "fake-good is not installed; start the server again" in answer.stderr
