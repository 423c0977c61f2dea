"""Options of plugins: checked by the plugin's own model, with sentences that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.config.schema import HooklineConfig
from hookline.config.sources import load_config
from hookline.errors import ConfigError, PluginError
from hookline.plugins.manager import load_plugins
from hookline.plugins.options import check_options, load_config_model
from hookline.plugins.plan import PluginPlan
from hookline.plugins.registry import Registry
from hookline.plugins.resolve import choose
from tests.factories.distributions import hook, install, only

OPTIONS = """
from pydantic import BaseModel, Field

class Options(BaseModel):
    size: int = Field(4, ge=1, description="how large")
    names: list[str] = []
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    with_options = install(
        tmp_path,
        "mine",
        hook("poolers", '[PoolerSpec(name="p", target="PACKAGE.options:Options")]'),
        info='config_model="PACKAGE.options:Options"',
    )
    (tmp_path / with_options.package / "options.py").write_text(OPTIONS)
    install(tmp_path, "plain")
    only(monkeypatch, [tmp_path])
    return load_plugins()


def test_options_are_checked_and_filled(registry: Registry) -> None:
    assert check_options({"mine": {"size": 9}}, registry) == {"mine": {"size": 9, "names": []}}
    assert check_options({}, registry) == {"mine": {"size": 4, "names": []}}


def test_a_plugins_name_may_have_dashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The merged configuration has underscores there, whatever a file or a variable wrote."""
    mine = install(tmp_path, "my-own", info='config_model="PACKAGE.options:Options"')
    (tmp_path / mine.package / "options.py").write_text(OPTIONS)
    only(monkeypatch, [tmp_path])
    registry = load_plugins()
    (tmp_path / "mine.toml").write_text("[plugins.my-own]\nsize = 9\n")
    for loaded in (
        load_config(files=[tmp_path / "mine.toml"], environ={}),
        load_config(environ={"HOOKLINE__PLUGINS__MY_OWN__SIZE": "9"}),
        load_config(sets=["plugins.my-own.size=9"], environ={}),
    ):
        assert check_options(loaded.config.plugins, registry) == {"my-own": {"size": 9, "names": []}}
    with pytest.raises(ConfigError, match=r"^plugins.my-own.size: Input should be a valid integer"):
        check_options({"my_own": {"size": "many"}}, registry)


def test_all_faults_are_told_at_once(registry: Registry) -> None:
    options = {"mine": {"size": 0, "sze": 1}, "plain": {"x": 1}, "flash_x": {"y": 1}, "mien": {}}
    with pytest.raises(ConfigError) as info:
        check_options(options, registry)
    lines = str(info.value).splitlines()
    assert "plugins.flash_x: no plugin 'flash_x' is installed; to install it: pip install hookline-flash-x" in lines[0]
    assert "plugins.mien: no plugin 'mien' is installed; did you mean 'mine'?" in lines[1]
    assert lines[2] == "unknown setting 'plugins.mine.sze'; did you mean 'size'? (known: size, names)"
    assert lines[3].startswith("plugins.mine.size: Input should be greater than or equal to 1")
    assert lines[4] == "plugins.plain: fake-plain 1.0 takes no options"


def test_a_process_gets_the_options_as_the_plugins_own_model(registry: Registry) -> None:
    config = HooklineConfig(plugins={"mine": {"names": ["a"]}})
    (offer,) = registry.of_kind("poolers")
    plan = PluginPlan(
        chosen=[choose(offer)],
        options=check_options(config.plugins, registry),
        config_models={"mine": str(registry.plugin("mine").info.config_model)},
    )
    options = plan.options_of(plan.one("poolers"))
    assert (options.size, options.names) == (4, ["a"])


def test_a_config_model_that_does_not_load_names_the_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "mine", info='config_model="PACKAGE.options:Options"')
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match=r"the options of plugin 'mine' of fake-mine 1\.0 do not load"):
        load_config_model(load_plugins().plugin("mine"))


def test_a_config_model_must_be_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "mine", info='config_model="json:dumps"')
    only(monkeypatch, [tmp_path])
    with pytest.raises(PluginError, match=r"'json:dumps', the config_model of plugin 'mine'.*is not a pydantic model"):
        load_config_model(load_plugins().plugin("mine"))
