"""Checks of what a hook yields: types are checked once, here, since pluggy checks the names of arguments only."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Set
from dataclasses import fields
from typing import Any, Union, get_args, get_origin

from packaging.requirements import InvalidRequirement, Requirement

from hookline.errors import PluginError
from hookline.interfaces.spec import PluginInfo, Requirements, Spec
from hookline.plugins.kinds import SPEC_TYPES
from hookline.plugins.names import near_miss

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
#: An option that this core's dataclass does not have, in the words of Python.
_UNEXPECTED = re.compile(r"^(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def check_spec(hook: str, spec_type: type[Spec], spec: Any) -> None:
    """Raises ``PluginError`` if what a hook offers is not a sound spec of its kind."""
    if not isinstance(spec, spec_type):
        raise PluginError(f"{hook} must offer {spec_type.__name__}, not {type(spec).__name__}: {spec!r:.80}")
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise PluginError(f"{hook} offers the name {spec.name!r}; use letters, digits, '_', '.' and '-'")
    where = f"{hook}: '{spec.name}'"
    if not isinstance(spec.target, str) or not _TARGET.fullmatch(spec.target):
        raise PluginError(f"{where} has the target {spec.target!r}; write it as 'package.module:attribute'")
    if spec.prebuild and not (isinstance(spec.prebuild, str) and _TARGET.fullmatch(spec.prebuild)):
        raise PluginError(f"{where} has prebuild = {spec.prebuild!r}; write it as 'package.module:function', or ''")
    if not isinstance(spec.requires, Requirements):
        raise PluginError(f"{where} requires {spec.requires!r:.80}; use Requirements(...)")
    _check_fields(where, spec_type, spec)
    _check_fields(f"{where}: Requirements(...)", Requirements, spec.requires)
    for line in spec.requires.packages:
        try:
            Requirement(line)
        except InvalidRequirement as exc:
            raise PluginError(f"{where} requires the package '{line}'; write it as 'name>=1.0': {exc}") from exc
    for kind in spec.imposes:
        if kind not in SPEC_TYPES:
            raise PluginError(f"{where} imposes features on '{kind}'{near_miss(kind, SPEC_TYPES)}, which is no kind")


def check_info(where: str, info: PluginInfo) -> None:
    """Raises ``PluginError`` if a field of PLUGIN has the wrong type."""
    _check_fields(f"{where}: PluginInfo(...)", PluginInfo, info)


def explain_failure(exc: BaseException) -> str:
    """What an exception in a hook says, and for a field that this core does not know, what to do."""
    text = f"{type(exc).__name__}: {exc}"
    match = _UNEXPECTED.match(str(exc)) if isinstance(exc, TypeError) else None
    known = {spec_type.__name__: spec_type for spec_type in (*SPEC_TYPES.values(), Requirements, PluginInfo)}
    if match is None or match[1] not in known:
        return text
    names = [field.name for field in fields(known[match[1]])]
    return (
        f"{match[1]} has no field '{match[2]}' in this core{near_miss(match[2], names)} (known: {', '.join(names)}); "
        "if the plugin was written for a newer one, upgrade hookline-core"
    )


def _check_fields(where: str, cls: type, value: Any) -> None:
    hints = typing.get_type_hints(cls)
    for field in fields(cls):
        given = getattr(value, field.name)
        if _fits(given, hints[field.name]):
            continue
        hint = f"; write ({given!r},)" if isinstance(given, str) and str(field.type).startswith("tuple") else ""
        raise PluginError(f"{where} has {field.name} = {given!r:.80}, which must be of type {field.type}{hint}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type that a field of a spec declares. Sets may be frozen or not, tuples be lists."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin is frozenset:
        return isinstance(value, Set) and all(_fits(item, arguments[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
