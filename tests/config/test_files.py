"""Config files: lines, endings and what is wrong with their text."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.config.files import read_config_file
from hookline.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_lines_of_toml(tmp_path: Path) -> None:
    text = '\ntop = 1\n[ a ] # c\n"b-c" = 2\nd.e = 3\n[x.y]\nz = """\nfake = 1\n"""\n'
    lines = read_config_file(write(tmp_path / "f.toml", text)).lines
    assert lines[("top",)] == 2
    assert lines[("a", "b-c")] == 4
    assert lines[("a", "d", "e")] == 5
    assert lines[("x", "y", "z")] == 7


def test_lines_of_yaml_and_json(tmp_path: Path) -> None:
    yaml_lines = read_config_file(write(tmp_path / "f.yaml", "a:\n  b: 1\n  c: {d: 2}\n")).lines
    json_lines = read_config_file(write(tmp_path / "f.json", '{"a": {\n  "b": 1,\n  "c": {"d": 2}}}')).lines
    assert yaml_lines[("a", "b")] == json_lines[("a", "b")] == 2
    assert yaml_lines[("a", "c", "d")] == json_lines[("a", "c", "d")] == 3


def test_json_with_tabs_loses_only_its_lines(tmp_path: Path) -> None:
    assert read_config_file(write(tmp_path / "f.json", '{\n\t"a": {\n\t\t"b": 1\n\t}\n}')).values == {"a": {"b": 1}}


@pytest.mark.parametrize("name", ["f.toml", "f.yaml", "f.yml", "f.json"])
def test_an_empty_file_sets_nothing(tmp_path: Path, name: str) -> None:
    assert read_config_file(write(tmp_path / name, "")).values == {}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("f.toml", "a = 1\nb = [\nc = 2\n", r"f\.toml' is not valid TOML: .*line 3"),
        ("f.yaml", "a: [", r"f\.yaml' is not valid YAML: .*line"),
        ("f.json", "{'a': 1}", r"f\.json' is not valid JSON: .*line 1"),
        ("f.yaml", "a: 1\nb: 2\na: 3\n", r"line 3: 'a' is already set at line 1"),
        ("f.json", '{"a": 1, "a": 2}', r"has the key 'a' twice"),
        ("f.yaml", "- a\n", r"must hold a table of sections, not list"),
        ("f.ini", "", r"must end in one of \.json, \.toml, \.yaml, \.yml"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_config_file(write(tmp_path / name, text))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read config file '.*gone\.toml': No such file"):
        read_config_file(tmp_path / "gone.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        read_config_file(tmp_path / "b.toml")
