"""Settings: every leaf of the schema as data, from which flags, keywords, help and messages are made."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hookline.config.schema import NONE_WORDS, HooklineConfig, Section

_TRUE_WORDS = ("true", "yes", "on", "1")
_FALSE_WORDS = ("false", "no", "off", "0")
_TYPE_NAMES = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One leaf of the schema."""

    #: "" for the few that stand outside the sections.
    section: str
    leaf: str
    field: FieldInfo

    @property
    def path(self) -> str:
        """ "model.max_model_len"."""
        return f"{self.section}.{self.leaf}" if self.section else self.leaf

    @property
    def flag(self) -> str:
        """ "--max-model-len"."""
        return "--" + self.leaf.replace("_", "-")

    @property
    def default(self) -> Any:
        return self.field.get_default(call_default_factory=True)

    @property
    def description(self) -> str:
        return self.field.description or ""

    @property
    def is_secret(self) -> bool:
        extra = self.field.json_schema_extra
        return isinstance(extra, dict) and bool(extra.get("secret"))

    @cached_property
    def _types(self) -> list[tuple[Any, list[Any]]]:
        """Alternatives of the annotation with the bounds of each: [(int, [Ge(1)]), (Literal['auto'], [])]."""
        return list(_alternatives(self.field.annotation, list(self.field.metadata)))

    @property
    def is_bool(self) -> bool:
        return any(kind is bool for kind, _ in self._types)

    @property
    def is_list(self) -> bool:
        return any(get_origin(kind) is list for kind, _ in self._types)

    @property
    def is_table(self) -> bool:
        return any(get_origin(kind) is dict for kind, _ in self._types)

    @property
    def accepts_none(self) -> bool:
        return any(kind is types.NoneType for kind, _ in self._types)

    @property
    def expected(self) -> str:
        """What the value may be, for messages: "an integer of at least 1 or 'auto'"."""
        return " or ".join(_describe(kind, bounds) for kind, bounds in self._types)

    def parse(self, text: str) -> Any:
        """The value that a flag, an environment variable or ``--set`` writes as ``text``.

        What does not fit any of the setting's types is returned as it is, for the schema to refuse.
        """
        if self.accepts_none and text.lower() in NONE_WORDS:
            return None
        # Words of a setting's own ("auto") come before what else the text could be.
        for kind, _ in sorted(self._types, key=lambda alternative: get_origin(alternative[0]) is not Literal):
            fits, value = _parse_as(kind, text)
            if fits:
                return value
        return text

    def parse_entry(self, text: str) -> Any:
        """The value of one entry of a table ("lora_adapters.mine=/path")."""
        for kind, _ in self._types:
            if get_origin(kind) is dict:
                return text if get_args(kind)[1] is str else parse_scalar(text)
        return text


def all_settings(config: type[BaseModel] = HooklineConfig) -> dict[str, Setting]:
    """Every setting by its path, in the schema's order."""
    settings = {}
    for name, field in config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for leaf, inner in field.annotation.model_fields.items():
                setting = Setting(section=name, leaf=leaf, field=inner)
                settings[setting.path] = setting
        else:
            settings[name] = Setting(section="", leaf=name, field=field)
    return settings


def by_leaf(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The same by leaf name; leaf names are unique (a test says so)."""
    return {setting.leaf: setting for setting in settings.values()}


def section_help(section: str) -> str:
    """One line about a section."""
    annotation = HooklineConfig.model_fields[section].annotation
    return (getattr(annotation, "__doc__", "") or "").strip().splitlines()[0]


def parse_scalar(text: str) -> Any:
    """An untyped value written as text: what YAML makes of it, or the text itself."""
    try:
        return yaml.safe_load(text) if text else text
    except yaml.YAMLError:
        return text


def _alternatives(annotation: Any, bounds: list[Any]) -> typing.Iterator[tuple[Any, list[Any]]]:
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part, bounds)
    elif get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        own = [item for extra in extras for item in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        yield from _alternatives(inner, [*bounds, *own])
    else:
        yield annotation, bounds


def _describe(kind: Any, bounds: list[Any]) -> str:
    if kind is types.NoneType:
        return "null"
    if get_origin(kind) is Literal:
        values = [f"'{value}'" if isinstance(value, str) else str(value) for value in get_args(kind)]
        return " or ".join(values) if len(values) < 3 else f"one of {', '.join(values)}"
    if get_origin(kind) is list:
        return "a list of texts"
    if get_origin(kind) is dict:
        return "a table of texts" if get_args(kind)[1] is str else "a table"
    name = _TYPE_NAMES.get(kind, str(kind))
    return name + _bounds_text(bounds) if kind in (int, float) else name


def _bounds_text(bounds: list[Any]) -> str:
    low = next((f"at least {item.ge}" for item in bounds if isinstance(item, annotated_types.Ge)), None)
    low = low or next((f"more than {item.gt}" for item in bounds if isinstance(item, annotated_types.Gt)), None)
    high = next((f"at most {item.le}" for item in bounds if isinstance(item, annotated_types.Le)), None)
    parts = [part for part in (low, high) if part]
    return f" of {' and '.join(parts)}" if parts else ""


def _parse_as(kind: Any, text: str) -> tuple[bool, Any]:
    """Whether ``text`` is a value of one type, and the value."""
    if get_origin(kind) is Literal:
        for value in get_args(kind):
            if str(value) == text:
                return True, value
        return False, None
    if get_origin(kind) is list:
        if text.lstrip().startswith("["):
            return True, parse_scalar(text)
        return True, [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(kind) is dict:
        return _parse_table(text)
    if kind is bool:
        lowered = text.lower()
        return lowered in (*_TRUE_WORDS, *_FALSE_WORDS), lowered in _TRUE_WORDS
    if kind in (int, float):
        try:
            return True, kind(text)
        except ValueError:
            return False, None
    return kind is str, text


def _parse_table(text: str) -> tuple[bool, Any]:
    """ "{a: 1}" as YAML and JSON write it, or "a=1,b=2" with text values."""
    if text.lstrip().startswith("{"):
        return True, parse_scalar(text)
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        return False, None
    return True, {key.strip(): value.strip() for key, _, value in pairs}
