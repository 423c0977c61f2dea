"""Config files: TOML, YAML or JSON, read into plain values with the line of each."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hookline.errors import ConfigError

_TOML_TABLE = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$")
_TOML_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_TOML_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """One file. ``lines`` maps keys as written (("cache", "page-size")) to line numbers, where they are known."""

    path: Path
    values: dict[str, Any]
    lines: dict[tuple[str, ...], int]


def read_config_file(path: Path | str) -> ConfigFile:
    """Read a file by its ending; an empty one is an empty table. Raises ``ConfigError`` naming file and line."""
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"config file '{path}' must end in one of {', '.join(sorted(_READERS))}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read config file '{path}': {reason}") from exc
    values, lines = reader(path, text)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file '{path}' must hold a table of sections, not {type(values).__name__}")
    return ConfigFile(path=path, values=values, lines=lines)


def _read_toml(path: Path, text: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"config file '{path}' is not valid TOML: {exc}") from exc
    # tomllib keeps no positions. A key inside a multi-line string could be taken for a setting, but then its
    # path does not exist and nobody asks for its line.
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _TOML_TABLE.match(line):
            table = _toml_keys(match.group(1))
            lines.setdefault(table, number)
        elif match := _TOML_KEY.match(line):
            lines.setdefault((*table, *_toml_keys(match.group(1))), number)
    return values, lines


def _toml_keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _TOML_PART.findall(dotted))


def _read_json(path: Path, text: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"config file '{path}' has the key '{key}' twice in one object")
        return dict(pairs)

    if not text.strip():
        return {}, {}
    try:
        values = json.loads(text, object_pairs_hook=table)
    except json.JSONDecodeError as exc:
        raise ConfigError(f"config file '{path}' is not valid JSON: {exc}") from exc
    try:
        # JSON is YAML but for rarities (tabs); then only the lines are missing.
        lines = _yaml_lines(path, yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        lines = {}
    return values, lines


def _read_yaml(path: Path, text: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    try:
        lines = _yaml_lines(path, yaml.compose(text, Loader=yaml.SafeLoader))
        values = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ConfigError(f"config file '{path}' is not valid YAML: {' '.join(str(exc).split())}") from exc
    return values, lines


def _yaml_lines(path: Path, node: yaml.Node | None, keys: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    lines: dict[tuple[str, ...], int] = {}
    for key_node, value_node in node.value:
        inner = (*keys, str(key_node.value))
        number = key_node.start_mark.line + 1
        if inner in lines:
            # YAML itself would let the last one win without a word.
            raise ConfigError(
                f"config file '{path}', line {number}: '{inner[-1]}' is already set at line {lines[inner]}"
            )
        lines[inner] = number
        lines.update(_yaml_lines(path, value_node, inner))
    return lines


_READERS: dict[str, Callable[[Path, str], tuple[Any, dict[tuple[str, ...], int]]]] = {
    ".toml": _read_toml,
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
