"""Sources: files, environment, flags and keywords, laid over each other into one typed configuration.

Precedence, the strongest first: flags and keywords, ``--set``, environment HOOKLINE__SECTION__NAME, files (a
later one over an earlier one). Below them stand the defaults of the model's family and those of the schema.
Tables merge, lists and everything else replace.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hookline.config.files import ConfigFile, read_config_file
from hookline.config.schema import HooklineConfig
from hookline.config.secrets import redact_value
from hookline.config.settings import Setting, all_settings, by_leaf, parse_scalar
from hookline.errors import ConfigError
from hookline.plugins.names import near_miss

ENVIRONMENT_PREFIX = "HOOKLINE__"

_Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from."""

    kind: Literal["default", "file", "environment", "set", "flag", "keyword"]
    #: What to show: "hookline.toml:3", "HOOKLINE__CACHE__PAGE_SIZE", "--page-size".
    text: str

    def __str__(self) -> str:
        return self.text


DEFAULT = Origin(kind="default", text="default")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """The configuration and the origin of every value that is not a default."""

    config: HooklineConfig
    #: Dotted path -> origin; entries of tables have paths of their own ("plugins.mine.size").
    origins: Mapping[str, Origin]

    def origin_of(self, path: str) -> Origin:
        """Where the value at a dotted path comes from; for a table, where its strongest entry does."""
        return _origin_of(self.origins, path)

    def given(self) -> list[tuple[str, str, Origin]]:
        """(path, printable value, origin) of everything that was set, secrets hidden; for the log."""
        values = self.config.model_dump()
        return [
            (path, repr(redact_value(path, _at(values, path))), origin) for path, origin in sorted(self.origins.items())
        ]


def load_config(
    files: Sequence[str | Path] = (),
    sets: Sequence[str] = (),
    flags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    keywords: Mapping[str, Any] | None = None,
    plugins: Mapping[str, Mapping[str, Any]] | None = None,
    disable: Sequence[str] = (),
) -> LoadedConfig:
    """Merge all sources and check the result against the schema.

    ``sets`` are texts "a.b=value"; ``flags`` map leaf names to texts; ``environ`` defaults to the process's;
    ``keywords`` map leaf names to Python values; ``plugins`` are options of plugins; ``disable`` adds to
    ``disabled_plugins`` whatever that is. Options of plugins are checked later, when the plugins are known.

    Raises ``ConfigError`` whose lines name everything that is wrong, each with its origin.
    """
    merge = _Merge()
    for path in files:
        merge.add_file(read_config_file(path))
    merge.add_environment(os.environ if environ is None else environ)
    for assignment in sets:
        merge.add_assignment(assignment)
    for leaf, text in (flags or {}).items():
        setting = merge.leaves[leaf]
        merge.put((*_sections(setting), leaf), setting.parse(text), Origin(kind="flag", text=setting.flag))
    merge.add_keywords(keywords or {})
    for name, options in (plugins or {}).items():
        merge.put(("plugins", _snake(name)), dict(options), Origin(kind="keyword", text="keyword plugins"))
    if disable:
        disabled = merge.values.get("disabled_plugins", [])
        names = [*disabled, *disable] if isinstance(disabled, list) else list(disable)
        merge.put(("disabled_plugins",), names, Origin(kind="flag", text="--no-plugin"))
    return merge.finish()


class _Merge:
    """Values merged so far, where each came from, and all that is wrong with them."""

    def __init__(self) -> None:
        self.settings = all_settings()
        self.leaves = by_leaf(self.settings)
        self.sections = {setting.section for setting in self.settings.values() if setting.section}
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.problems: list[str] = []

    def add_file(self, file: ConfigFile) -> None:
        def origin_of(written: _Keys) -> Origin:
            line = next((file.lines[written[:n]] for n in range(len(written), 0, -1) if written[:n] in file.lines), 0)
            return Origin(kind="file", text=f"{file.path}:{line}" if line else str(file.path))

        seen: dict[_Keys, Origin] = {}
        for written, keys, value in self._leaves(file.values, origin_of):
            origin = origin_of(written)
            if keys in seen:
                self.problems.append(f"{'.'.join(keys)} is set twice: {seen[keys]} and {origin}")
            seen[keys] = origin
            self.put(keys, value, origin)

    def _leaves(
        self, values: Mapping[str, Any], origin_of: Callable[[_Keys], Origin]
    ) -> Iterator[tuple[_Keys, _Keys, Any]]:
        """(keys as written, keys of the schema, value) of each setting in a file; notes unknown ones."""
        for written, value in values.items():
            top = (str(written),)
            key = _snake(top[0])
            if key not in self.sections:
                if self.find((key,), origin_of(top)) is not None:
                    yield from _entries(top, (key,), value, depth=2 if key == "plugins" else 0)
                continue
            if not isinstance(value, Mapping):
                self.problems.append(
                    f"section '{key}' must be a table of settings, not {value!r:.80} ({origin_of(top)})"
                )
                continue
            for inner, setting_value in value.items():
                both = (*top, str(inner))
                leaf = _snake(both[1])
                if self.find((key, leaf), origin_of(both)) is not None:
                    yield from _entries(both, (key, leaf), setting_value)

    def add_environment(self, environ: Mapping[str, str]) -> None:
        for name in sorted(environ):
            if name.startswith(ENVIRONMENT_PREFIX):
                keys = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
                self._put_text(keys, environ[name], Origin(kind="environment", text=name))

    def add_assignment(self, assignment: str) -> None:
        path, equals, text = assignment.partition("=")
        if not equals:
            self.problems.append(f"--set {assignment}: write it as section.name=value")
            return
        keys = tuple(path.strip().split("."))
        # Names of sections, settings and plugins may have dashes; keys inside a table are the user's own.
        count = 3 if keys[0] == "plugins" else 2 if _snake(keys[0]) in self.sections else 1
        keys = (*(_snake(key) for key in keys[:count]), *keys[count:])
        self._put_text(keys, text, Origin(kind="set", text=f"--set {path.strip()}"))

    def add_keywords(self, keywords: Mapping[str, Any]) -> None:
        for name, value in keywords.items():
            origin = Origin(kind="keyword", text=f"keyword {name}")
            if name not in self.leaves:
                hint = near_miss(name, self.leaves) or f" (known: {', '.join(sorted(self.leaves))})"
                self.problems.append(f"unknown keyword '{name}'{hint}")
                continue
            self.put((*_sections(self.leaves[name]), name), _plain(value), origin)

    def _put_text(self, keys: _Keys, text: str, origin: Origin) -> None:
        known = self.find(keys, origin)
        if known is None:
            return
        rest = keys[len(known.path.split(".")) :]
        value = known.parse_entry(text) if rest else known.parse(text)
        if known.leaf == "plugins":
            value = parse_scalar(text)
        self.put(keys, value, origin)

    def find(self, keys: _Keys, origin: Origin) -> Setting | None:
        """The setting that keys lead to or into; notes the problem when there is none."""
        path = ".".join(keys[: 2 if keys[0] in self.sections else 1])
        setting = self.settings.get(path)
        if setting is None:
            self.problems.append(f"{self._unknown(keys)} ({origin})")
            return None
        rest = keys[len(path.split(".")) :]
        if rest and not setting.is_table:
            self.problems.append(f"{path} has no parts, '{'.'.join(keys)}' cannot be set ({origin})")
            return None
        return setting

    def put(self, keys: _Keys, value: Any, origin: Origin) -> None:
        """Set a value; a table is merged entry by entry, an empty one empties."""
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                self.put((*keys, str(key)), inner, origin)
            return
        table = self.values
        for index, key in enumerate(keys[:-1], start=1):
            if not isinstance(table.get(key), dict):
                table[key] = {}
                self.origins.pop(".".join(keys[:index]), None)
            elif not table[key]:
                self.origins.pop(".".join(keys[:index]), None)
            table = table[key]
        path = ".".join(keys)
        for known in [known for known in self.origins if known.startswith(f"{path}.")]:
            del self.origins[known]
        table[keys[-1]] = value
        self.origins[path] = origin

    def finish(self) -> LoadedConfig:
        try:
            config = HooklineConfig.model_validate(self.values)
        except ValidationError as exc:
            self.problems.extend(dict.fromkeys(self._explain(error["loc"], error) for error in exc.errors()))
            raise ConfigError("\n".join(self.problems)) from exc
        if self.problems:
            raise ConfigError("\n".join(self.problems))
        return LoadedConfig(config=config, origins=dict(self.origins))

    def _explain(self, loc: tuple[int | str, ...], error: Any) -> str:
        """One sentence for an error of pydantic: what is expected, what was given, and where."""
        keys = [str(part) for part in loc]
        setting = self.settings.get(".".join(keys[:2])) or self.settings.get(keys[0])
        if setting is None:
            text = str(error["msg"]).removeprefix("Value error, ")
            return f"{'.'.join(keys)}: {text}"
        value = _at(self.values, setting.path)
        shown = redact_value(setting.path, value)
        origin = _origin_of(self.origins, setting.path)
        return f"{setting.path} must be {setting.expected}, not {shown!r:.80} ({origin})"

    def _unknown(self, keys: _Keys) -> str:
        path = ".".join(keys)
        if keys[0] in self.sections:
            if len(keys) == 1:
                return f"'{path}' is a section; set one of its settings"
            elsewhere = self.leaves.get(keys[1])
            if elsewhere is not None:
                return f"unknown setting '{path}'; did you mean '{elsewhere.path}'?"
            mates = {setting.leaf: setting.path for setting in self.settings.values() if setting.section == keys[0]}
            near = near_miss(keys[1], mates) or near_miss(keys[1], self.leaves)
            return f"unknown setting '{path}'{near} (settings of {keys[0]}: {', '.join(mates)})"
        setting = self.leaves.get(keys[0])
        if setting is not None:
            return f"'{keys[0]}' belongs to a section; did you mean '{setting.path}'?"
        tops = [*sorted(self.sections), *(path for path in self.settings if "." not in path)]
        near = near_miss(keys[0], tops) or near_miss(keys[0], self.leaves)
        return f"unknown section or setting '{keys[0]}'{near} (sections: {', '.join(tops)})"


def _entries(written: _Keys, keys: _Keys, value: Any, depth: int = 0) -> Iterator[tuple[_Keys, _Keys, Any]]:
    """A table's entries one by one, so that each keeps its line; ``depth`` levels have names of ours."""
    if not isinstance(value, Mapping) or not value:
        yield written, keys, value
        return
    for inner, inner_value in value.items():
        key = _snake(str(inner)) if depth > 0 else str(inner)
        yield from _entries((*written, str(inner)), (*keys, key), inner_value, depth - 1)


def _origin_of(origins: Mapping[str, Origin], path: str) -> Origin:
    if path in origins:
        return origins[path]
    return next((origin for known, origin in origins.items() if known.startswith(f"{path}.")), DEFAULT)


def _sections(setting: Setting) -> _Keys:
    return (setting.section,) if setting.section else ()


def _snake(name: str) -> str:
    return name.replace("-", "_")


def _plain(value: Any) -> Any:
    """A Python value as a file would have it: tuples are lists, paths are texts."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, Path) else value


def _at(values: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, whose last parts may be keys that hold dots themselves."""
    if path in values:
        return values[path]
    head, _, rest = path.partition(".")
    while rest:
        if head in values and isinstance(values[head], Mapping):
            return _at(values[head], rest)
        part, _, rest = rest.partition(".")
        head = f"{head}.{part}"
    return None
