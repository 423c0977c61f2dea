"""ValueWriter: arguments that are written one by one, as formats of structural tags; and what these are built of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hookline.errors import RequestError
from hookline.formats.description import WrittenCalls
from hookline.formats.schemas import follow, part
from hookline.formats.values import TEXT, Types, types_of

#: A format of a structural tag.
Structure = dict[str, Any]

_PYTHON_WORDS = {"boolean": ("True", "False"), "null": ("None",)}
_BRANCHES = ("anyOf", "oneOf")
#: Keywords that say what a text is, besides its type.
_LENGTHS = ("minLength", "maxLength")
#: Keywords that bare text cannot be held to.
_REFUSED = ("allOf", "not", "if", "$dynamicRef")
#: Keywords that say nothing of a value.
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated", "$comment"})
#: A name that no marker can end early.
_ANY_KEY = r"[^<>\"\n]{1,64}"
#: Branches that are followed inside of each other.
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Ways:
    """How a value may be written: as bare text, or as what it is in JSON."""

    texts: list[Structure] = field(default_factory=list)
    others: list[Structure] = field(default_factory=list)


class ValueWriter:
    """Writes arguments as ``written`` says."""

    def __init__(self, written: WrittenCalls) -> None:
        self._written = written

    def properties(self, schema: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
        """Required and optional properties."""
        schema = follow(schema, schema)
        properties = schema.get("properties")
        items = list(properties.items()) if isinstance(properties, Mapping) else []
        names = schema.get("required")
        required = set(names) if isinstance(names, Sequence) and not isinstance(names, str) else set()
        return [item for item in items if item[0] in required], [item for item in items if item[0] not in required]

    def parameter(self, key: str, schema: Any, root: Mapping[str, Any]) -> Structure:
        """A parameter between its markers. ``RequestError`` if bare text cannot be held to its schema."""
        written, ways = self._written, self._ways(key, schema, root, _MAX_DEPTH)
        if written.text_open == written.value_open:
            # A text may spell every other value too.
            contents = [_ANY_TEXT] if _ANY_TEXT in ways.texts else [*ways.texts, *ways.others]
            return self._tag(written.text_open, key, contents)
        tags = [
            self._tag(begin, key, contents)
            for begin, contents in ((written.text_open, ways.texts), (written.value_open, ways.others))
            if contents
        ]
        return either(tags)

    def any_parameters(self) -> Structure:
        """Parameters of any names, and any texts for values."""
        written = self._written
        ways = []
        for begin in dict.fromkeys((written.text_open, written.value_open)):
            before, _, behind = begin.partition("{key}")
            key: Structure = {"type": "regex", "pattern": _ANY_KEY}
            ways.append(sequence(text(before), [key, self._tag(behind, "", [_ANY_TEXT])]))
        return {"type": "star", "content": either(ways)}

    def _tag(self, begin: str, key: str, contents: list[Structure]) -> Structure:
        content = either([_ANY_TEXT] if _ANY_TEXT in contents else contents)
        close = self._written.value_close
        # Any text ends at the marker, whatever stands before that.
        end = close.lstrip() if content == _ANY_TEXT else close
        tag = {"type": "tag", "begin": begin.replace("{key}", key), "content": content, "end": end.rstrip()}
        return sequence([tag], text(end[len(end.rstrip()) :]))

    def keyword(self, key: str, schema: Any, root: Mapping[str, Any]) -> Structure:
        """``key=value``."""
        return sequence(text(f"{key}="), [self._quoted(types_of(schema, root), schema, root)])

    def _ways(self, key: str, schema: Any, root: Mapping[str, Any], depth: int) -> Ways:
        own = _without_single_all_of(follow(schema, root), root)
        values = own.get("enum", [own["const"]] if "const" in own else None)
        if isinstance(values, Sequence) and not isinstance(values, str) and values:
            texts = [found for value in values if isinstance(value, str) for found in text(value) or [_EMPTY]]
            return Ways(texts, [found for value in values if not isinstance(value, str) for found in self._word(value)])
        for branches in (own[word] for word in _BRANCHES if isinstance(own.get(word), Sequence)):
            if depth and not own.keys() & {"type", *_REFUSED, *_LENGTHS, "pattern"}:
                found = [self._ways(key, branch, root, depth - 1) for branch in branches]
                return Ways(
                    [way for each in found for way in each.texts], [way for each in found for way in each.others]
                )
        types = types_of(own, root)
        if types is None and own.keys() <= _ANNOTATIONS:
            return Ways([_ANY_TEXT], [self._json(own, root)])
        if types is None or "string" not in types:
            return Ways([], [self._quoted(types, own, root)])
        others = types - TEXT
        rest = [self._quoted(others, {**own, "type": sorted(others)}, root)] if others else []
        return Ways(self._text(key, own), rest)

    def _text(self, key: str, schema: Mapping[str, Any]) -> list[Structure]:
        """A bare text, whose end is the closing marker."""
        pattern, shortest, longest = (schema.get(word) for word in ("pattern", *_LENGTHS))
        has_length = shortest is not None or longest is not None
        for word in _REFUSED:
            if word in schema or (word == "allOf" and isinstance(pattern, str) and has_length):
                what = f"'{word}'" if word in schema else "'pattern' and a length at once"
                raise RequestError(
                    f"this model writes the argument '{key}' as bare text, which cannot be held to {what}",
                    param="tools",
                    code="unsupported_schema",
                )
        if isinstance(pattern, str):
            return [{"type": "regex", "pattern": pattern.removeprefix("^").removesuffix("$")}]
        if not has_length:
            return [_ANY_TEXT]
        first = re.escape(self._written.value_close.lstrip()[:1])
        return [{"type": "regex", "pattern": f"[^{first}]{{{shortest or 0},{'' if longest is None else longest}}}"}]

    def _word(self, value: Any) -> list[Structure]:
        """A fixed value that is no text."""
        is_printed = self._is_python and (value is None or isinstance(value, bool))
        return text(json.dumps(value, ensure_ascii=False)) + (text(str(value)) if is_printed else [])

    def _quoted(self, types: Types | None, schema: Any, root: Mapping[str, Any]) -> Structure:
        """A value that is not bare text."""
        spelt = [word for kind in sorted(types or ()) for word in _PYTHON_WORDS.get(kind, ()) if self._is_python]
        choices = [found for word in spelt for found in text(word)]
        if types is None or not spelt or types - set(_PYTHON_WORDS):
            choices.append(self._json(schema, root))
        return either(choices)

    def _json(self, schema: Any, root: Mapping[str, Any]) -> Structure:
        return {"type": "json_schema", "json_schema": part(schema, root)}

    @property
    def _is_python(self) -> bool:
        return self._written.python_words or self._written.arguments == "python"


def _without_single_all_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Some generators write a reference beside a description as ``allOf`` of one schema."""
    parts = schema.get("allOf")
    if not isinstance(parts, Sequence) or len(parts) != 1:
        return schema
    return {**{key: value for key, value in schema.items() if key != "allOf"}, **follow(parts[0], root)}


def text(value: str) -> list[Structure]:
    """A fixed text; nothing for an empty one."""
    return [{"type": "const_string", "value": value}] if value else []


def optional(content: Structure) -> Structure:
    """It, or nothing."""
    return {"type": "optional", "content": content}


def either(choices: Iterable[Structure]) -> Structure:
    """One of these."""
    found = list(choices)
    return found[0] if len(found) == 1 else {"type": "or", "elements": found}


def sequence(*parts: Sequence[Structure]) -> Structure:
    """These behind each other."""
    elements = [element for each in parts for element in each]
    # Of an empty sequence grammars know nothing.
    return elements[0] if len(elements) == 1 else {"type": "sequence", "elements": elements or [_EMPTY]}


_EMPTY: Structure = {"type": "const_string", "value": ""}
_ANY_TEXT: Structure = {"type": "any_text"}
