"""Grammars of every kind, with texts that belong to them, texts that do not, and a judge of all others."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

#: The grammar fields of SamplingParams.
KINDS = ("json_schema", "json_object", "regex", "ebnf", "choice", "structural_tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarCase:
    """One grammar and its language."""

    kind: str
    source: str
    accepted: Sequence[str]
    refused: Sequence[str]
    #: Whether a text belongs to the language, told by something else than a grammar backend.
    judge: Callable[[str], bool]
    #: From where random outputs go on, beside the start.
    beginnings: Sequence[str] = ()
    #: A regular expression of the ``regex`` package over the language's UTF-8 bytes; every mask is then judged, token
    #: by token, by its partial matches.
    over_bytes: bytes | None = None

    @property
    def id(self) -> str:
        """As ``refuses`` names it."""
        return f"{self.kind}:{self.source}"


def regex_case(
    source: str, accepted: Sequence[str], refused: Sequence[str], over_bytes: bytes | None = None
) -> GrammarCase:
    """A pattern that the whole output has to match; judged by ``re``."""

    def judge(text: str) -> bool:
        return re.fullmatch(source, text) is not None

    return GrammarCase(
        kind="regex", source=source, accepted=accepted, refused=refused, judge=judge, over_bytes=over_bytes
    )


def _plain(source: str, accepted: Sequence[str], refused: Sequence[str]) -> GrammarCase:
    """A pattern that means the same over bytes: no wildcards, nothing but ASCII in classes and repetitions."""
    return regex_case(source, accepted, refused, source.encode())


def schema_case(schema: dict[str, Any], accepted: Sequence[str], refused: Sequence[str]) -> GrammarCase:
    """A JSON schema; judged by the jsonschema package."""
    source = json.dumps(schema)
    judge = functools.partial(_follows, schema)
    return GrammarCase(kind="json_schema", source=source, accepted=accepted, refused=refused, judge=judge)


def choice_case(texts: Sequence[str], refused: Sequence[str]) -> GrammarCase:
    """One of several texts."""
    return GrammarCase(
        kind="choice",
        source=json.dumps(list(texts), ensure_ascii=False),
        accepted=texts,
        refused=refused,
        judge=frozenset(texts).__contains__,
    )


def _follows(schema: dict[str, Any], text: str) -> bool:
    import jsonschema  # type: ignore[import-untyped]

    try:
        document = json.loads(text)
    except ValueError:
        return False
    return bool(jsonschema.Draft202012Validator(schema).is_valid(document))


def _are_nested(text: str) -> bool:
    """``(a)``, ``((a))``, … with commas between."""
    parts = [re.fullmatch(r"(\(+)a(\)+)", part) for part in text.split(",")]
    return all(part is not None and len(part[1]) == len(part[2]) for part in parts)


def _holds_good_tags(text: str) -> bool:
    """Free text in which ``<f=`` begins ``<f=a>{"x": 1}</f>`` and nothing else."""
    while "<f=" in text:
        text = text[text.index("<f=") :]
        if not text.startswith("<f=a>"):
            return False
        try:
            document, end = json.JSONDecoder().raw_decode(text[5:].lstrip())
        except ValueError:
            return False
        text = text[5:].lstrip()[end:].lstrip()
        if not isinstance(document, dict) or not isinstance(document.get("x"), int) or not text.startswith("</f>"):
            return False
    return True


_LEAF = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
_X = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
_TAGGED = ["free text, no tag", 'before <f=a>{"x": 1}</f> after', '<f=a>{"x": -20}</f><f=a>{"x": 3}</f>', ""]
_UNTAGGED = ['before <f=a>{"y": 1}</f>', "<f=b>", '<f=a>{"x": 1}', '<f=a>{"x": "1"}</f>']

REGEXES = (
    _plain("ab+c", ["abc", "abbbbc"], ["ac", "ab", "abcc", "xabc", ""]),
    _plain("(yes|no)", ["yes", "no"], ["ye", "yesno", "YES"]),
    _plain(r"[0-9]{1,3}(\.[0-9][0-9])?", ["7", "123.45"], ["1234", "1.5", "."]),
    _plain("[A-Z ]{2,4}", ["A B", "    "], ["A", "ABCDE", "a b"]),
    _plain("é|漢字|😀", ["é", "漢字", "😀"], ["e", "漢", "漢字字", ""]),
    _plain(r"[A-Z][a-z]* (the|be)", ["To be", "T the"], ["to be", "To  be", "To bee"]),
    _plain("(ab|ba)*!", ["!", "abba!"], ["aba!", "", "ab"]),
    _plain("a{0,3}", ["", "a", "aaa"], ["aaaa", "b"]),
    # What special tokens are called is text like any other; the tokens are not.
    _plain("[<|>a-z_]+", ["<|im_end|>", "<s>", "<tool>"], ["", "A"]),
)
SCHEMAS = (
    schema_case(
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]},
        ['{"a": -3, "b": "x\\n é"}', '{"a":0}', '{"a": 1, "b": "漢字"}'],
        ['{"a": "1"}', '{"b": "x"}', '{"a": 0', "[]", ""],
    ),
    schema_case(
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        ["[true, false]", "[true]"],
        ["[]", "[1]", "[true, true, true, true]"],
    ),
    schema_case(
        {"enum": ["red", "Grüß", 7, None, {"x": [1]}]}, ['"red"', '"Grüß"', "7", "null"], ['"green"', "8", "red"]
    ),
    schema_case({"type": "string", "enum": ["on", "off"]}, ['"on"', '"off"'], ["on", '"o"']),
    schema_case(
        {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]},
        ["12", "[null]", "[]"],
        ["[1]", "null"],
    ),
    schema_case({"type": "string", "minLength": 2, "maxLength": 6}, ['"ab"', '"abcdef"'], ['"a"', '"abcdefg"', "ab"]),
    schema_case({"type": ["integer", "null"]}, ["0", "-12", "null"], ['"0"', "01", "nul"]),
    schema_case(
        {
            "$defs": {"leaf": _LEAF},
            "type": "object",
            "properties": {"leaves": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2}},
            "required": ["leaves"],
            "additionalProperties": False,
        },
        ['{"leaves": [{"n": 1}, {"n": 2}]}', '{"leaves": []}'],
        ['{"leaves": [{"n": 1}, {"n": 2}, {"n": 3}]}', '{"leaves": [{}]}', "{}"],
    ),
)
EBNFS = (
    GrammarCase(
        kind="ebnf",
        source='root ::= pair ("," pair)*\npair ::= "(" ("a" | pair) ")"',
        accepted=["(a)", "(a),((a))", "((((a))))"],
        refused=["((a)", "(a),", "a", ""],
        judge=_are_nested,
    ),
    GrammarCase(
        kind="ebnf",
        source='root ::= "no" | "yes" " " [0-9]+ "é"?',
        accepted=["no", "yes 12", "yes 7é"],
        refused=["yes", "yes é", "no 1"],
        judge=lambda text: re.fullmatch("no|yes [0-9]+é?", text) is not None,
    ),
)
STRUCTURAL_TAGS = (
    GrammarCase(
        kind="structural_tag",
        source=json.dumps(
            {
                "type": "structural_tag",
                "format": {
                    "type": "triggered_tags",
                    "triggers": ["<f="],
                    "tags": [
                        {
                            "type": "tag",
                            "begin": "<f=a>",
                            "content": {"type": "json_schema", "json_schema": _X},
                            "end": "</f>",
                        }
                    ],
                },
            }
        ),
        accepted=_TAGGED,
        refused=_UNTAGGED,
        judge=_holds_good_tags,
        beginnings=["so <f=", '<f=a>{"x": '],
    ),
    GrammarCase(
        kind="structural_tag",
        source=json.dumps({"structures": [{"begin": "<f=a>", "schema": _X, "end": "</f>"}], "triggers": ["<f="]}),
        accepted=_TAGGED,
        refused=_UNTAGGED,
        judge=_holds_good_tags,
        beginnings=["so <f=", '<f=a>{"x": '],
    ),
)
JSON_OBJECTS = (
    GrammarCase(
        kind="json_object",
        source='{"type": "object"}',
        accepted=['{"a": 1, "b": ["x", null, {"c": true}]}', "{}", '{"é": {"漢": -1.5}}'],
        refused=["[1]", "1", '{"a"}', '{"a": 1', ""],
        judge=functools.partial(_follows, {"type": "object"}),
    ),
)
CHOICES = (
    choice_case(["yes", "no", "not at all"], ["Yes", "not", "yesno", ""]),
    choice_case(["a|b", ".*", 'say "x"', "\\n", "(c", "[d]", "{1,2}", "^e$"], ["a", "b", "..", "e", "c"]),
    choice_case(["é", "漢字", "😀", "line\nbreak"], ["漢", "line"]),
)
CASES = (*REGEXES, *SCHEMAS, *EBNFS, *STRUCTURAL_TAGS, *JSON_OBJECTS, *CHOICES)

#: A structural tag of many formats: what calls of functions are made of.
TAG_FORMATS = GrammarCase(
    kind="structural_tag",
    source=json.dumps(
        {
            "type": "structural_tag",
            "format": {
                "type": "or",
                "elements": [
                    {"type": "json_schema", "json_schema": _X},
                    {
                        "type": "sequence",
                        "elements": [
                            {"type": "const_string", "value": "<f>"},
                            {
                                "type": "repeat",
                                "min": 1,
                                "max": 2,
                                "content": {
                                    "type": "tag",
                                    "begin": "<a>",
                                    "content": {"type": "any_text"},
                                    "end": "</a>",
                                },
                            },
                            {"type": "optional", "content": {"type": "regex", "pattern": "[0-9]{1,3}"}},
                        ],
                    },
                ],
            },
        }
    ),
    accepted=['{"x": 1}', "<f><a></a>", "<f><a>b {c}</a><a>d</a>12"],
    refused=["", "<f>", '{"x": "1"}', "<f><a>b</a><a>c</a><a>d</a>", "<f><a>b</a>1234", 'so {"x": 1}', "<f>12"],
    judge=lambda text: True,
)

#: Sources that are no grammars, by kind.
BAD_SOURCES: dict[str, tuple[str, ...]] = {
    "regex": ("(a", "[a", "a)", "*a"),
    "json_schema": (
        "{",
        '"text"',
        '{"type": "strin"}',
        '{"type": 5}',
        '{"type": "object", "properties": [1]}',
        '{"$ref": "#/$defs/missing"}',
        '{"type": "string", "pattern": "("}',
        "[" * 100_000,
    ),
    "choice": ("x", "[]", "{}", '[""]', "[1]", '["\\ud800"]'),
    "ebnf": ("root ::= ", 'foo ::= "a"', "root ::= nothing", 'root ::= "a'),
    "structural_tag": ("x", "{}", '{"structures": [], "triggers": 5}', '{"structures": [{}], "triggers": ["a"]}'),
}
