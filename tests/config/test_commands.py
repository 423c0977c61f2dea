"""``hookline config`` and the options that commands share."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hookline import __version__
from hookline.cli import COMMANDS, cli, main
from hookline.commands.options import ENGINE_SETTINGS, SERVER_SETTINGS, configured_command
from hookline.config.schema import HooklineConfig
from hookline.config.settings import all_settings, by_leaf
from hookline.config.sources import LoadedConfig, load_config


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("HOOKLINE__")]:
        monkeypatch.delenv(name)


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``hookline`` with these arguments."""

    @click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def whole(arguments: tuple[str, ...]) -> None:
        main(arguments)

    result = CliRunner().invoke(whole, ["--", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_version_and_help() -> None:
    assert run("--version") == (0, f"hookline {__version__}\n", "")
    status, out, _ = run("--help")
    assert status == 0
    assert all(name in out for name in COMMANDS)


def test_unknown_command_has_a_near_miss() -> None:
    status, _, err = run("confg")
    assert status == 2
    assert "unknown command 'confg'; did you mean 'config'?" in err


def test_every_command_of_the_table_is_there() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize("spelling", [["--config", "FILE"], ["--config=FILE"]])
def test_both_spellings_of_config_are_read(tmp_path: Path, spelling: list[str]) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[server]\nport = 0\nwarmup = false\n")
    arguments = [part.replace("FILE", str(file)) for part in spelling]
    status, out, _ = run("config", "show", "--json", *arguments)
    assert status == 0
    assert (json.loads(out)["server"]["port"], json.loads(out)["server"]["warmup"]) == (0, False)


def test_show_with_origin_says_where_values_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[server]\nport = 1\napi_key = "hush"\n')
    monkeypatch.setenv("HOOKLINE__CACHE__PAGE_SIZE", "16")
    status, out, _ = run("config", "show", "some/model", "--config", str(file), "--no-warmup", "--origin")
    assert status == 0
    lines = {line.split(" = ")[0]: line for line in out.splitlines() if " = " in line}
    assert lines["port"].endswith(f"# {file}:2")
    assert lines["warmup"].startswith("warmup = false")
    assert lines["warmup"].endswith("# --warmup")
    assert lines["page_size"].endswith("# HOOKLINE__CACHE__PAGE_SIZE")
    assert lines["model"].startswith('model = "some/model"')
    assert lines["host"].endswith("# default")
    assert "hush" not in out


def test_what_show_prints_is_a_config_file(tmp_path: Path) -> None:
    _, out, _ = run("config", "show", "--set", "lora.lora_adapters.a=/x", "--port", "9")
    (tmp_path / "again.toml").write_text(out)
    loaded = load_config(files=[tmp_path / "again.toml"], environ={})
    assert loaded.config == load_config(environ={}, keywords={"lora_adapters": {"a": "/x"}, "port": 9}).config


def test_init_writes_a_valid_file_that_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    assert run("config", "init", str(file))[0] == 0
    assert load_config(files=[file], environ={}).config == HooklineConfig()
    status, _, err = run("config", "init", str(file))
    assert status == 1
    assert "is already there" in err
    assert run("config", "init", str(tmp_path / "x.ini"))[0] == 1


def test_every_line_of_init_is_valid_once_uncommented(tmp_path: Path) -> None:
    _, out, _ = run("config", "init")
    names = {setting.leaf for setting in all_settings().values()}
    lines = [
        line.removeprefix("# ") if line.removeprefix("# ").split(" = ")[0] in names else line
        for line in out.splitlines()
    ]
    file = tmp_path / "all.toml"
    file.write_text("\n".join(lines))
    sections = tomllib.loads(file.read_text())
    assert sum(len(section) for section in sections.values() if isinstance(section, dict)) == sum(
        bool(setting.section) for setting in all_settings().values()
    )
    assert load_config(files=[file], environ={}).config == HooklineConfig()


def test_validate_tells_every_fault(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("server: {port: 1}\n")
    bad.write_text("server:\n  prt: 1\ncache:\n  page_size: big\n")
    status, out, _ = run("config", "validate", str(good))
    assert (status, out) == (0, f"{good}: valid, 1 settings\n")
    status, _, err = run("config", "validate", str(good), str(bad))
    assert status == 1
    assert len(err.splitlines()) == 2
    assert f"{bad}:2" in err
    assert f"{bad}:4" in err
    missing = tmp_path / "plugin.yaml"
    missing.write_text("plugins: {flash-x: {size: 1}}\n")
    status, _, err = run("config", "validate", str(missing))
    assert status == 1
    assert "pip install hookline-flash-x" in err


def test_schema_is_json_schema_of_every_section() -> None:
    status, out, _ = run("config", "schema")
    assert status == 0
    assert set(json.loads(out)["properties"]) == set(HooklineConfig.model_fields)


def sample(*arguments: str) -> LoadedConfig:
    """The configuration that a command with all options gets."""
    seen: list[LoadedConfig] = []

    @configured_command(common=ENGINE_SETTINGS, takes_model=True)
    @click.option("--own", default="")
    def sample_command(loaded: LoadedConfig, own: str) -> None:
        """A command."""
        seen.append(loaded)

    result = CliRunner().invoke(sample_command, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return seen[0]


def test_every_setting_is_a_flag() -> None:
    arguments: list[str] = []
    given = set()
    for setting in all_settings().values():
        if not setting.section or setting.leaf in ("kv_cache_gib", "tls_cert_file", "tls_key_file"):
            continue
        given.add(setting.path)
        if setting.is_bool:
            arguments.append(setting.flag if not setting.default else f"--no-{setting.flag.removeprefix('--')}")
        elif setting.is_table:
            arguments += [setting.flag, "k=v"]
        elif setting.default is None or setting.default == []:
            arguments += [setting.flag, "7" if "integer" in setting.expected or "number" in setting.expected else "x"]
        else:
            default = setting.default
            arguments += [setting.flag, ",".join(default) if isinstance(default, list) else str(default)]
    loaded = sample(*arguments)
    assert set(loaded.origins) >= {path for path in given if not all_settings()[path].is_table}
    assert {origin.kind for origin in loaded.origins.values()} == {"flag"}


def test_flags_that_repeat_make_lists_and_tables() -> None:
    config = sample("m", "--ops", "a", "--ops", "b,c", "--lora-adapters", "x=/1", "--lora-adapters", "y=/2").config
    assert config.model.model == "m"
    assert config.execution.ops == ["a", "b", "c"]
    assert config.lora.lora_adapters == {"x": "/1", "y": "/2"}


def test_the_model_given_twice_is_an_error() -> None:
    status, _, err = run("config", "show", "one", "--model", "two")
    assert status == 2
    assert "the model is given twice: 'one' and --model 'two'" in err


def test_no_plugin_and_no_plugins_disable() -> None:
    assert sample("--no-plugin", "a", "--no-plugin", "b").config.disabled_plugins == ["a", "b"]
    assert sample("--no-plugins").config.disabled_plugins == ["*"]


def test_short_help_is_short_and_prints_the_precedence() -> None:
    status, out, _ = run("config", "show", "--help")
    assert status == 0
    assert "Strongest first: flags, --set, environment" in " ".join(out.split())
    assert "--page-size" not in out
    assert len(SERVER_SETTINGS) <= 22
    assert set(SERVER_SETTINGS) <= set(by_leaf(all_settings()))


@pytest.mark.parametrize(
    ("topic", "shown", "hidden"),
    [
        ("cache", "--page-size", "--port"),
        ("evict", "--eviction-policy", "--page-size"),
        ("kv-cache", "--kv-cache-gib", "--port"),
        ("KV", "--kv-cache-gib", "--port"),
    ],
)
def test_help_has_topics(topic: str, shown: str, hidden: str) -> None:
    status, out, err = run("config", "show", "--help", topic)
    assert status == 0, err
    assert shown in out
    assert hidden not in out


def test_help_about_nothing_names_the_sections() -> None:
    status, _, err = run("config", "show", "--help", "zebra")
    assert status == 2
    assert "no setting mentions 'zebra'; sections: server, model" in err


def test_help_of_all_lists_every_setting() -> None:
    _, out, _ = run("config", "show", "--help", "all")
    assert [setting.flag for setting in all_settings().values() if setting.section and setting.flag not in out] == []


def test_errors_go_to_stderr_with_status_one() -> None:
    status, out, err = run("config", "show", "--port", "x")
    assert (status, out) == (1, "")
    assert err.startswith("error: server.port must be an integer")
