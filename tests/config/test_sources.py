"""Sources: precedence, origins, values that look like nothing, and errors that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hookline.config.schema import HooklineConfig
from hookline.config.sources import LoadedConfig, load_config
from hookline.config.toml import toml_value
from hookline.errors import ConfigError


def load(*files: Path, **sources: Any) -> LoadedConfig:
    sources.setdefault("environ", {})
    return load_config(files=files, **sources)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return write(tmp_path / "a.toml", "# a comment\n[cache]\npage-size = 16\nmemory_fraction = 0.5\n")


def test_precedence_from_defaults_to_keywords(tmp_path: Path, toml: Path) -> None:
    later = write(tmp_path / "b.yaml", "cache:\n  page_size: 32\n")
    environ = {"HOOKLINE__CACHE__PAGE_SIZE": "48"}
    layers: list[tuple[dict[str, Any], int | str, str]] = [
        ({}, "auto", "default"),
        ({"files": [toml]}, 16, f"{toml}:3"),
        ({"files": [toml, later]}, 32, f"{later}:2"),
        ({"files": [toml, later], "environ": environ}, 48, "HOOKLINE__CACHE__PAGE_SIZE"),
        ({"files": [toml], "environ": environ, "sets": ["cache.page_size=64"]}, 64, "--set cache.page_size"),
        ({"environ": environ, "sets": ["cache.page_size=64"], "flags": {"page_size": "80"}}, 80, "--page-size"),
        ({"files": [toml], "environ": environ, "keywords": {"page_size": 96}}, 96, "keyword page_size"),
    ]
    for sources, value, origin in layers:
        loaded = load_config(**{"environ": {}, **sources})
        assert loaded.config.cache.page_size == value
        assert str(loaded.origin_of("cache.page_size")) == origin


def test_files_of_all_formats_say_the_same(tmp_path: Path) -> None:
    values = {
        "server": {"port": 0, "warmup": False, "api_families": []},
        "output": {"tool_call_parser": "none"},
        "lora": {"lora_adapters": {"my.adapter": "/x"}},
        "plugins": {"mine": {"deep": {"er": [1, None, False]}}},
    }
    files = [write(tmp_path / "a.json", json.dumps(values)), write(tmp_path / "a.yml", yaml.safe_dump(values))]
    first, second = (load(file).config for file in files)
    assert first == second
    assert first.server.api_families == []
    assert first.plugins == values["plugins"]


@pytest.mark.parametrize(
    ("path", "value"),
    [("server.warmup", False), ("output.reasoning_parser", None), ("server.api_families", []), ("server.port", 0)],
)
def test_values_that_look_like_nothing_are_values(tmp_path: Path, path: str, value: object) -> None:
    section, leaf = path.split(".")
    file = write(tmp_path / "a.yaml", f"{section}:\n  {leaf}: {json.dumps(value)}\n")
    loaded = load(file)
    assert loaded.config.model_dump()[section][leaf] == value
    assert str(loaded.origin_of(path)) == f"{file}:2"


def test_tables_merge_and_lists_replace(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a.yaml", "lora: {lora_adapters: {a: /1, b: /1}}\nserver: {api_families: [native, openai]}\n"
    )
    second = write(tmp_path / "b.yaml", "lora: {lora_adapters: {b: /2}}\nserver: {api_families: [x]}\n")
    loaded = load(first, second, sets=["lora.lora_adapters.c=/3"])
    assert loaded.config.lora.lora_adapters == {"a": "/1", "b": "/2", "c": "/3"}
    assert loaded.config.server.api_families == ["x"]
    assert str(loaded.origin_of("lora.lora_adapters.a")) == f"{first}:1"
    assert str(loaded.origin_of("lora.lora_adapters.c")) == "--set lora.lora_adapters.c"


def test_an_empty_table_empties(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "lora: {lora_adapters: {a: /1}}\n")
    second = write(tmp_path / "b.yaml", "lora: {lora_adapters: {}}\n")
    assert load(first, second).config.lora.lora_adapters == {}
    assert load(second, first).config.lora.lora_adapters == {"a": "/1"}


def test_kebab_and_snake_case_are_one(tmp_path: Path, toml: Path) -> None:
    assert load(toml, sets=["cache.memory-fraction=0.25"]).config.cache.memory_fraction == 0.25
    both = write(tmp_path / "b.toml", "[cache]\npage-size = 1\npage_size = 2\n")
    with pytest.raises(ConfigError, match=r"cache\.page_size is set twice: .*b\.toml:2 and .*b\.toml:3"):
        load(both)


def test_keys_of_tables_are_the_users_own() -> None:
    loaded = load(sets=["lora.lora-adapters.my-name=/x", "plugins.my-plugin.some-size=3"])
    assert loaded.config.lora.lora_adapters == {"my-name": "/x"}
    assert loaded.config.plugins == {"my_plugin": {"some_size": 3}}


def test_environment_reaches_every_section() -> None:
    environ = {
        "HOOKLINE__SERVER__PORT": "9",
        "HOOKLINE__PLUGINS__MINE__SIZES": "[1, 2]",
        "HOOKLINE__DISABLED_PLUGINS": "a,b",
        "HOOKLINE_SOURCE_TREE": "not a setting",
        "PATH": "/bin",
    }
    config = load(environ=environ).config
    assert (config.server.port, config.plugins, config.disabled_plugins) == (9, {"mine": {"sizes": [1, 2]}}, ["a", "b"])


def test_keywords_take_python_values() -> None:
    config = load(keywords={"chat_template": Path("/t.jinja"), "ops": ("a", "b"), "max_model_len": None}).config
    assert (config.model.chat_template, config.execution.ops, config.model.max_model_len) == (
        "/t.jinja",
        ["a", "b"],
        None,
    )


def test_plugins_can_be_disabled_on_top_of_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", 'disabled_plugins = ["one"]\n')
    assert load(file, disable=["two"]).config.disabled_plugins == ["one", "two"]


def test_only_what_was_given_counts_as_set(toml: Path) -> None:
    config = load(toml).config
    assert config.cache.model_fields_set == {"page_size", "memory_fraction"}
    assert config.server.model_fields_set == set()


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ({"sets": ["cache.page_siz=1"]}, "unknown setting 'cache.page_siz'; did you mean 'page_size'?"),
        ({"sets": ["server.page_size=1"]}, "unknown setting 'server.page_size'; did you mean 'cache.page_size'?"),
        ({"sets": ["cahce.page_size=1"]}, "unknown section or setting 'cahce'; did you mean 'cache'?"),
        ({"sets": ["page_size=1"]}, "'page_size' belongs to a section; did you mean 'cache.page_size'?"),
        ({"sets": ["cache=1"]}, "'cache' is a section; set one of its settings"),
        ({"sets": ["cache.page_size.x=1"]}, "cache.page_size has no parts"),
        ({"sets": ["cache.page_size"]}, "write it as section.name=value"),
        ({"environ": {"HOOKLINE__CACHE__PAGESIZE": "1"}}, "did you mean 'page_size'?"),
        ({"keywords": {"page_siz": 1}}, "unknown keyword 'page_siz'; did you mean 'page_size'?"),
        ({"keywords": {"zzz": 1}}, "unknown keyword 'zzz' (known: admin_key, "),
        ({"keywords": {"port": "8000"}}, "server.port must be an integer of at least 0 and at most 65535, not '8000'"),
        ({"keywords": {"port": True}}, "server.port must be an integer"),
        ({"keywords": {"memory_fraction": float("nan")}}, "cache.memory_fraction must be a number of more than 0"),
        ({"keywords": {"device": "tpu"}}, "execution.device must be one of 'auto', 'cpu', 'cuda', not 'tpu' (keyword"),
        ({"keywords": {"lora_adapters": {"a": 1}}}, "lora.lora_adapters must be a table of texts, not {'a': 1}"),
        ({"keywords": {"kv_cache_gib": 1.0, "kv_cache_tokens": 5}}, "cache: kv_cache_tokens and kv_cache_gib say"),
        ({"keywords": {"tls_cert_file": "x"}}, "server: tls_cert_file and tls_key_file belong together"),
        ({"keywords": {"schema_version": 2}}, "schema_version must be 1, not 2"),
        ({"flags": {"port": "x"}}, "server.port must be an integer of at least 0 and at most 65535, not 'x' (--port)"),
    ],
)
def test_wrong_settings_say_what_to_do(sources: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as info:
        load(**sources)
    assert sentence in str(info.value)


def test_all_faults_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", '[server]\nport = "x"\nprt = 1\n[modle]\nx = 1\n[cache]\nmemory_fraction = 2.0\n')
    with pytest.raises(ConfigError) as info:
        load(file)
    lines = str(info.value).splitlines()
    assert [line.rsplit("(", 1)[1] for line in lines] == [f"{file}:{number})" for number in (3, 4, 2, 7)]


def test_a_section_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"section 'cache' must be a table of settings, not 7 \(.*a\.json:1\)"):
        load(write(tmp_path / "a.json", '{"cache": 7}'))


def test_secrets_stay_hidden_in_errors_logs_and_reprs(tmp_path: Path) -> None:
    loaded = load(keywords={"api_key": "hush", "admin_key": "env:ADMIN"}, plugins={"mine": {"auth_token": "hush"}})
    given = {path: value for path, value, _ in loaded.given()}
    assert given["server.api_key"] == "'***'"
    assert given["server.admin_key"] == "'env:ADMIN'"
    assert given["plugins.mine.auth_token"] == "'***'"
    assert "hush" not in repr(loaded.config.server)
    with pytest.raises(ConfigError) as info:
        load(keywords={"api_key": 12345})
    assert "12345" not in str(info.value)


def test_origin_of_a_table_is_that_of_an_entry() -> None:
    loaded = load(sets=["plugins.mine.size=1"])
    assert str(loaded.origin_of("plugins")) == "--set plugins.mine.size"
    assert str(loaded.origin_of("server.port")) == "default"


SCALARS = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-2, 2), st.text("ab=, ", max_size=4))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3)
)


@given(options=st.dictionaries(st.text("xyz", min_size=1, max_size=3), VALUES, max_size=3))
def test_plugin_options_arrive_as_they_were_written(options: dict[str, Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "a.toml", f"[plugins]\nmine = {toml_value(options)}\n")
        assert load(file).config.plugins == {"mine": options}


def test_the_default_is_the_schemas() -> None:
    assert load().config == HooklineConfig()
    assert load().origins == {}
