"""SchemaCheck: refuses JSON schemas that a backend would compile into something else than they say.

The libraries underneath ignore a good part of JSON Schema without a word. A client would get documents that do
not follow its schema, so what is known to be ignored is an error here. Still accepted although inexact:

- ``oneOf`` whose branches exclude each other counts as ``anyOf``, ``pattern`` must match the whole string,
  properties come in the schema's order, and what a schema does not declare is not generated: that gives fewer
  documents, never wrong ones.
- ``format`` values that the backend does not know, ``default``, ``title`` and the like say nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from hookline.errors import RequestError
from hookline.interfaces.grammar import UnsupportedGrammarError
from hookline_grammar.disjoint import are_disjoint
from hookline_grammar.json_patterns import unsafe_piece

#: Compilers recurse into a schema, and some slow down with the square of its depth.
MAX_DEPTH = 100

_STRING = frozenset({"minLength", "maxLength", "pattern"})
_RANGE = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_NUMBER = _RANGE | {"multipleOf"}
_ARRAY = frozenset({"items", "prefixItems", "minItems", "maxItems"})
_OBJECT = frozenset(
    {
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
    }
)
_COMBINED = ("$ref", "allOf", "anyOf", "oneOf", "const", "enum")
_ASSERTIONS = frozenset({"type", "format", *_COMBINED}) | _STRING | _NUMBER | _ARRAY | _OBJECT
_PYTHON_TYPES = {
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
#: Some libraries leave it out of a pattern without a word.
_LOOKAROUND = re.compile(r"(?<!\\)(?:\\\\)*\(\?<?[=!]")
#: Ignored by every backend here.
_ALWAYS_IGNORED = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "$dynamicRef",
        "$recursiveRef",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaCheck:
    """What one backend ignores, besides what all of them do."""

    backend: str
    #: Whether the backend itself refuses what it does not know, and enforces keywords beside each other.
    is_complete: bool = False
    ignored: frozenset[str] = frozenset()
    #: Keywords of which each set is honoured alone, but not together.
    exclusive: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()
    #: Values of ``format`` whose grammar is wrong.
    ignored_formats: frozenset[str] = frozenset()
    #: Whether classes and dots in a ``pattern`` leave out what JSON must escape.
    filters_patterns: bool = False
    #: Whether names of properties are escaped as JSON wants it.
    escapes_names: bool = True
    #: Whether values of any shape can be generated.
    allows_any: bool = True

    def parse(self, source: str, param: str = "json_schema") -> dict[str, Any] | bool:
        """The schema in a JSON text; ``RequestError`` if it is none or says more than the backend heeds."""
        schema = parse_json(source, param)
        self.check(schema, param)
        assert isinstance(schema, (dict, bool))
        return schema

    def check(self, schema: object, param: str = "json_schema") -> list[dict[str, Any]]:
        """As ``parse``, for a schema that is read already. Gives all schemas reachable from the root."""
        if not isinstance(schema, (dict, bool)):
            raise RequestError(f"{param} must be a JSON object or a boolean, not {schema!r:.80}", param=param)
        pending: list[tuple[str, object]] = [("#", schema)]
        seen = {"#"}
        nodes: list[dict[str, Any]] = []
        while pending:
            place, node = pending.pop()
            if isinstance(node, bool):
                continue
            if not isinstance(node, dict):
                raise RequestError(f"{param}: {place} must be a schema, not {node!r:.80}", param=param)
            _Node(self, param, place, node, schema).check()
            nodes.append(node)
            children = list(_children(place, node))
            if "$ref" in node:
                children.append((str(node["$ref"]), _target(schema, place, node, param)))
            for child in children:
                if child[0] not in seen:
                    seen.add(child[0])
                    pending.append(child)
        return nodes


@dataclass(frozen=True, slots=True)
class _Node:
    """One schema within the document."""

    rules: SchemaCheck
    param: str
    place: str
    schema: dict[str, Any]
    root: object

    def check(self) -> None:
        keys = self.schema.keys()
        ignored = keys & (_ALWAYS_IGNORED | self.rules.ignored)
        if ignored:
            self._refuse(ignored)
        if self.schema.get("uniqueItems"):
            self._refuse({"uniqueItems"})
        self._check_one_of()
        if self.rules.is_complete:
            return
        for first, second in self.rules.exclusive:
            if keys & first and keys & second:
                self._refuse(keys & first, f"beside {_names(keys & second)}")
        self._check_combined()
        self._check_types()
        self._check_required()
        self._check_texts()
        self._check_shape()

    def _check_one_of(self) -> None:
        branches = self.schema.get("oneOf")
        if not isinstance(branches, list):
            return

        def resolve(ref: str) -> object:
            return _resolve(self.root, ref)

        for number, branch in enumerate(branches):
            for earlier in range(number):
                if not are_disjoint(branches[earlier], branch, resolve):
                    self._refuse({"oneOf"}, f"whose branches {earlier} and {number} might hold for one value")

    def _check_shape(self) -> None:
        if self.rules.allows_any or self.schema.keys() & set(_COMBINED):
            return
        types, keys = self._types(), self.schema.keys()
        if types is None:
            free = "a value of any type"
        elif "object" in types and not keys & {"properties", "additionalProperties"}:
            free = "an object without 'properties'"
        elif "array" in types and not keys & {"items", "prefixItems"}:
            free = "an array without 'items'"
        else:
            return
        raise UnsupportedGrammarError(
            f"{self.param}: the grammar backend '{self.rules.backend}' cannot generate {free}, at {self.place}; "
            "say what it holds",
            param=self.param,
            code="unsupported_schema",
        )

    def _check_texts(self) -> None:
        """Patterns, formats and names whose text could not stand in a JSON string as it is."""
        patterns = [self.schema["pattern"]] if isinstance(self.schema.get("pattern"), str) else []
        named = self.schema.get("patternProperties")
        patterns += named if isinstance(named, dict) else []
        for pattern in patterns:
            piece = unsafe_piece(pattern, wide_are_safe=self.rules.filters_patterns)
            if _LOOKAROUND.search(pattern):
                self._refuse({"pattern"}, "with what looks ahead or behind")
            if piece is not None:
                self._refuse({"pattern"}, f"that may match a character which JSON must escape ({piece!r:.40})")
        names = self.schema.get("properties")
        if not self.rules.escapes_names and isinstance(names, dict):
            odd = [name for name in names if json.dumps(name, ensure_ascii=False)[1:-1] != name]
            if odd:
                self._refuse({"properties"}, f"with a name that JSON must escape ({odd[0]!r:.40})")
        if self.schema.get("format") in self.rules.ignored_formats:
            self._refuse({"format"}, f"{self.schema['format']!r}")

    def _check_combined(self) -> None:
        for keyword in _COMBINED:
            if keyword not in self.schema:
                continue
            beside = (self.schema.keys() & _ASSERTIONS) - {keyword}
            if keyword in ("const", "enum"):
                beside -= {"type"}
                self._check_values(keyword)
            if beside:
                self._refuse(beside, f"beside '{keyword}'")
        branches = self.schema.get("allOf")
        if isinstance(branches, list) and len(branches) > 1:
            self._refuse({"allOf"}, "with more than one schema")

    def _check_values(self, keyword: str) -> None:
        values = self.schema[keyword] if keyword == "enum" else [self.schema[keyword]]
        types = self._types()
        if types is None or not isinstance(values, list):
            return
        for value in values:
            if not any(_has_type(value, name) for name in types):
                self._refuse({"type"}, f"beside '{keyword}' when a value has another type ({value!r:.40})")

    def _check_types(self) -> None:
        """Keywords that hold for one type are ignored where the type is not told."""
        types = self._types()
        keys = self.schema.keys()
        if types is None:
            told = keys & _OBJECT & {"properties", "patternProperties"} or keys & {"items", "prefixItems"}
            unheard = keys & (_STRING | _NUMBER | (frozenset() if told else _ARRAY | _OBJECT))
            if unheard:
                self._refuse(unheard, "without 'type'")
        elif "number" in types and "multipleOf" in keys:
            self._refuse({"multipleOf"}, "for type 'number'")
        elif isinstance(self.schema.get("multipleOf"), float) and not self.schema["multipleOf"].is_integer():
            self._refuse({"multipleOf"}, "unless it is an integer")

    def _check_required(self) -> None:
        required, properties = self.schema.get("required"), self.schema.get("properties", {})
        if isinstance(required, list) and isinstance(properties, dict):
            missing = [name for name in required if name not in properties]
            if missing:
                self._refuse({"required"}, f"for {missing[0]!r:.80}, which 'properties' does not declare")

    def _types(self) -> list[str] | None:
        types = self.schema.get("type")
        if isinstance(types, str):
            return [types]
        if types is None and self.place.endswith("/propertyNames"):
            return ["string"]
        return [str(name) for name in types] if isinstance(types, list) else None

    def _refuse(self, keywords: Iterable[str], when: str = "") -> NoReturn:
        named = _names(keywords)
        raise UnsupportedGrammarError(
            f"{self.param}: the grammar backend '{self.rules.backend}' does not enforce {named}"
            f"{' ' + when if when else ''}, at {self.place}; write the schema without it",
            param=self.param,
            code="unsupported_schema",
        )


def parse_json(source: str, param: str) -> Any:
    """A JSON text; ``RequestError`` if it is not one, or nested too deeply."""
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as exc:
        raise RequestError(f"{param} is not valid JSON: {exc}", param=param) from exc
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for parent in level for item in _items(parent)]
        if not level:
            return value
    raise RequestError(f"{param} is nested more than {MAX_DEPTH} levels deep", param=param)


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _children(place: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The schemas directly within one, with their JSON pointers."""
    for keyword in ("properties", "patternProperties"):
        value = schema.get(keyword)
        if isinstance(value, dict):
            for name, child in value.items():
                escaped = name.replace("~", "~0").replace("/", "~1")
                yield f"{place}/{keyword}/{escaped}", child
    for keyword in ("prefixItems", "anyOf", "oneOf", "allOf"):
        value = schema.get(keyword)
        if isinstance(value, list):
            for index, child in enumerate(value):
                yield f"{place}/{keyword}/{index}", child
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if keyword in schema:
            yield f"{place}/{keyword}", schema[keyword]


def _target(root: object, place: str, node: Mapping[str, Any], param: str) -> object:
    """The schema that the ``$ref`` of a node points to."""
    target: object = node
    followed: set[str] = set()
    while isinstance(target, dict) and "$ref" in target:
        ref = target["$ref"]
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise RequestError(
                f"{param}: '$ref' at {place} must point into the schema itself ('#/$defs/name'), not {ref!r:.80}",
                param=param,
                code="unsupported_schema",
            )
        if ref in followed:
            raise RequestError(f"{param}: '$ref' at {place} leads back to itself: {ref!r:.80}", param=param)
        followed.add(ref)
        target = _resolve(root, ref)
        if target is None:
            raise RequestError(f"{param}: '$ref' at {place} points nowhere: {ref!r:.80}", param=param)
    return _resolve(root, str(node["$ref"]))


def _resolve(root: object, ref: str) -> object:
    """What a JSON pointer in a fragment points to; ``None`` if there is nothing."""
    value = root
    for part in ref.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _has_type(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _PYTHON_TYPES.get(name, ()))


def _names(keywords: Iterable[str]) -> str:
    return ", ".join(f"'{keyword}'" for keyword in sorted(keywords))
