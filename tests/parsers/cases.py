"""What outputs mean, whatever the format: texts and calls in a row. Formats render them; see ``formats``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Something that a model writes: text, or a call.
Part = str | tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalCase:
    """An output without its format."""

    name: str
    parts: Sequence[Part]
    reasoning: str = ""

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        return [(part[0], dict(part[1])) for part in self.parts if not isinstance(part, str)]

    @property
    def content(self) -> str:
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def groups(self) -> list[str | list[tuple[str, dict[str, Any]]]]:
        """Texts, and calls that follow each other."""
        groups: list[str | list[tuple[str, dict[str, Any]]]] = []
        for part in self.parts:
            if isinstance(part, str):
                groups.append(part)
            elif groups and isinstance(groups[-1], list):
                groups[-1].append((part[0], dict(part[1])))
            else:
                groups.append([(part[0], dict(part[1]))])
        return groups


def _tool(name: str, properties: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": properties, **more}},
    }


CASE_TOOLS: tuple[Mapping[str, Any], ...] = (
    _tool("now", {}),
    _tool("get_weather", {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}}),
    _tool(
        "search",
        {
            "query": {"type": "string"},
            "limit": {"type": "integer"},
            "score": {"type": "number"},
            "exact": {"type": "boolean"},
            "filters": {"$ref": "#/$defs/Filters"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "parent": {"type": ["integer", "null"]},
            "nothing": {"type": "null"},
        },
        **{"$defs": {"Filters": {"type": "object", "properties": {"tags": {"type": "array"}}}}},
    ),
    _tool("run-it.now_2", {"code": {"type": "string"}}),
)

NOW: Part = ("now", {})
PARIS: Part = ("get_weather", {"city": "Paris"})


def _search(**arguments: Any) -> Part:
    return ("search", arguments)


def _code(text: str) -> Part:
    return ("run-it.now_2", {"code": text})


def logical_cases(markers: Sequence[str]) -> list[LogicalCase]:
    """The cases of a format; ``markers`` are those that its strings can hold."""
    quoted = "".join(markers)
    named: list[tuple[str, Sequence[Part]]] = [
        ("no call", ["Nothing to do."]),
        ("empty", []),
        ("text in lines", ["One.\n\n  two <b>\n{not: a call} [neither]"]),
        ("one call", [PARIS]),
        ("two calls", [PARIS, _search(query="x", limit=3)]),
        ("five calls", [PARIS, NOW, _search(query="a"), NOW, PARIS]),
        ("one function twice", [PARIS, ("get_weather", {"city": "Rome"})]),
        ("no arguments", [NOW]),
        ("no arguments and more", [NOW, PARIS]),
        ("more and no arguments", [PARIS, NOW]),
        ("no arguments thrice", [NOW, NOW, NOW]),
        ("text before", ["Let me see.", PARIS]),
        ("text after", [PARIS, "Done."]),
        ("text around", ["First this.", PARIS, "Then that."]),
        ("text between", [PARIS, "and now", NOW]),
        ("text everywhere", ["a", NOW, "b", PARIS, "c", NOW, "d"]),
        ("text that holds halves", ["1 < 2, a <b> and [x] or {y}", PARIS]),
        ("all types", [_search(query="q", limit=7, score=0.5, exact=True, tags=["a", "b"], filters={"tags": []})]),
        ("nested", [_search(filters={"tags": [{"a": {"b": [1, [2, {"c": None}]]}}], "": {}})]),
        ("empty nested", [_search(filters={}, tags=[])]),
        ("false and zero", [_search(limit=0, score=0.0, exact=False)]),
        ("negative", [_search(limit=-12, score=-1.5e-7)]),
        ("large integer", [_search(limit=2**60 + 1)]),
        ("number for a number", [_search(score=3)]),
        ("string like an integer", [_search(query="12")]),
        ("string like a padded integer", [_search(query="007")]),
        ("string like a number", [_search(query="1e5")]),
        ("string like a boolean", [_search(query="true")]),
        ("string like null", [_search(query="null")]),
        ("string like None", [_search(query="None")]),
        ("string like an object", [_search(query='{"a": 1}')]),
        ("string like a string", [_search(query='"quoted"')]),
        ("enum", [("get_weather", {"city": "Oslo", "unit": "celsius"})]),
        ("nullable with text", [_search(note="some"), _search(note="none")]),
        ("nullable with null", [_search(note=None, parent=None), _search(parent=4)]),
        ("null alone", [_search(nothing=None)]),
        ("strings in arrays", [_search(tags=["1", "null", "", " "])]),
        ("empty string", [_search(query="")]),
        ("blanks", [_search(query="  a  ")]),
        ("quotes", [_search(query='she said "it\'s" `so`')]),
        ("backslashes", [_search(query="C:\\new\\\\table \\n \\u00e9 \\")]),
        ("line breaks", [_code("def f():\n\treturn 1\n\n\nprint(f())")]),
        ("line breaks at the ends", [_code("\na\n")]),
        ("carriage return", [_code("a\r\nb")]),
        ("braces", [_search(query="}{ ]}[ {{}} ), (")]),
        ("tags", [_search(query="<b>1 < 2 && x</b> &amp;")]),
        ("markers in strings", [_search(query=quoted), PARIS]),
        ("markers in strings, reversed", [_search(query=f"a {''.join(reversed(markers))} b")]),
        ("markers nested", [_search(filters={"x": [*markers]}, tags=[*markers])]),
        ("unicode", [("get_weather", {"city": "Zürich 東京 🌦️ 👩‍👧"}), _search(tags=["é", "ß"])]),
        ("long string", [_code("x = [1, 2]  # comment\n" * 60)]),
        ("unknown tool", [("rm_rf", {"path": "/tmp/a b", "force": 3, "deep": {"a": [1]}})]),
        ("unknown tool and more", [("rm_rf", {}), PARIS]),
        ("unknown argument", [("get_weather", {"city": "Bonn", "days": 3, "x": "text"})]),
    ]
    return [
        *(LogicalCase(name=name, parts=parts) for name, parts in named),
        LogicalCase(name="reasoning", parts=["Answer."], reasoning="Hm.\nSo."),
        LogicalCase(name="reasoning and a call", parts=[PARIS], reasoning="I need the weather."),
        LogicalCase(name="reasoning, text and calls", parts=["Let me see.", PARIS, NOW], reasoning="1 < 2, so {x}"),
    ]
