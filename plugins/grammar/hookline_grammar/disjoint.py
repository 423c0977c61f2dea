"""Whether two JSON schemas have no value in common, as far as that shows at a glance.

``oneOf`` is compiled as ``anyOf``, which is the same where its branches exclude each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

#: Schemas within schemas that are looked into.
_MAX_DEPTH = 6
_ALL_TYPES = frozenset({"string", "integer", "fraction", "boolean", "null", "array", "object"})

#: Gives the schema that a ``$ref`` points to, or ``None``.
Resolve = Callable[[str], object]


def are_disjoint(first: object, second: object, resolve: Resolve, depth: int = 0) -> bool:
    """True only if no value follows both."""
    if depth > _MAX_DEPTH:
        return False
    if first is False or second is False:
        return True
    for one in _conjuncts(first, resolve, depth):
        for other in _conjuncts(second, resolve, depth):
            if _exclude(one, other, resolve, depth) or _branch_out(one, other, resolve, depth):
                return True
    return False


def _conjuncts(schema: object, resolve: Resolve, depth: int) -> Iterator[dict[str, Any]]:
    """Schemas all of which a value has to follow."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return
    yield schema
    if isinstance(schema.get("$ref"), str):
        yield from _conjuncts(resolve(schema["$ref"]), resolve, depth + 1)
    for part in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
        yield from _conjuncts(part, resolve, depth + 1)


def _branch_out(first: dict[str, Any], second: dict[str, Any], resolve: Resolve, depth: int) -> bool:
    """Whether one has alternatives, none of which goes with the other."""
    for one, other in ((first, second), (second, first)):
        for keyword in ("anyOf", "oneOf"):
            branches = one.get(keyword)
            if not isinstance(branches, list) or not branches:
                continue
            if all(are_disjoint(branch, other, resolve, depth + 1) for branch in branches):
                return True
    return False


def _exclude(first: dict[str, Any], second: dict[str, Any], resolve: Resolve, depth: int) -> bool:
    if not _types(first) & _types(second):
        return True
    values, others = _values(first), _values(second)
    if values is not None and others is not None:
        return not values & others
    if _types(first) == _types(second) == {"object"}:
        return _tell_apart(first, second, resolve, depth) or _leaves_out(first, second) or _leaves_out(second, first)
    return False


def _tell_apart(first: dict[str, Any], second: dict[str, Any], resolve: Resolve, depth: int) -> bool:
    """Whether a property that both require cannot follow both."""
    ones, others = first.get("properties"), second.get("properties")
    if not isinstance(ones, dict) or not isinstance(others, dict):
        return False
    shared = _required(first) & _required(second) & ones.keys() & others.keys()
    return any(are_disjoint(ones[name], others[name], resolve, depth + 1) for name in sorted(shared))


def _leaves_out(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether the first forbids a property that the second requires."""
    declared = first.get("properties", {})
    closed = first.get("additionalProperties") is False and "patternProperties" not in first
    return closed and isinstance(declared, dict) and bool(_required(second) - declared.keys())


def _required(schema: dict[str, Any]) -> set[str]:
    names = schema.get("required")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _types(schema: dict[str, Any]) -> frozenset[str]:
    """Types that a value may have; numbers fall into integers and others."""
    values = _values(schema)
    if values is not None:
        return frozenset(kind for kind, _ in values)
    told = schema.get("type")
    names = [told] if isinstance(told, str) else told
    if not isinstance(names, list):
        return _ALL_TYPES
    return frozenset(name for name in names if name != "number") | (
        {"integer", "fraction"} if "number" in names else frozenset()
    )


def _values(schema: dict[str, Any]) -> frozenset[tuple[str, str]] | None:
    """(type, text) of the values of ``const`` or ``enum``, if the schema has either."""
    if "const" in schema:
        return frozenset({_key(schema["const"])})
    if isinstance(schema.get("enum"), list):
        return frozenset(map(_key, schema["enum"]))
    return None


def _key(value: object) -> tuple[str, str]:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    names: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "fraction", list: "array"}
    kind = "null" if value is None else names.get(type(value), "object")
    return kind, json.dumps(_plain(value), sort_keys=True)


def _plain(value: object) -> object:
    """With 1 for 1.0, which are one value in JSON schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
