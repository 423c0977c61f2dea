"""Sources made to run away or to crash the libraries: each is compiled or refused, in time, and the next one works."""

from __future__ import annotations

import json

import pytest

from hookline.errors import RequestError
from hookline.scheduler.grammar_makers import HostedMaker

_DEEP = '{"type": "array", "items": '
SOURCES = [
    ("regex", "a{1,100000}"),
    ("regex", "(a{0,1000}){0,1000}"),
    ("regex", "(" * 50_000),
    ("regex", "((a|b|ab)*){1,60}c"),
    ("regex", "\\xff\\ud800"),
    ("json_schema", _DEEP * 5_000 + "{}" + "}" * 5_000),
    ("json_schema", _DEEP * 99 + "{}" + "}" * 99),
    ("json_schema", json.dumps({"enum": [f"value {number}" for number in range(20_000)]})),
    ("json_schema", '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}'),
    ("json_schema", json.dumps({"type": "string", "pattern": "^(a{0,999}){0,999}$"})),
    ("json_schema", '{"const": "\\ud800"}'),
    ("json_schema", json.dumps({"type": "array", "items": {"type": "array", "maxItems": 9999}, "maxItems": 9999})),
    ("ebnf", "root ::= root root | root"),
    ("ebnf", "root ::= " + "(" * 20_000),
    ("ebnf", 'root ::= "a" root{1,100000}'),
    ("choice", json.dumps([f"choice {number}" for number in range(20_000)])),
    ("structural_tag", '{"structures": [], "triggers": [""]}'),
    ("regex", "(x+x+)+y"),
    ("regex", "((((.*)*)*)*)*"),
    ("regex", "|".join(f"(a{{{number}}}b)" for number in range(2_000))),
    ("regex", "[" + "".join(chr(0x4E00 + 2 * number) for number in range(5_000)) + "]{1,50}"),
    ("json_schema", json.dumps({"$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}] * 50}}, "$ref": "#/$defs/n"})),
    ("json_schema", json.dumps({"properties": {f"p{number}": {} for number in range(3_000)}, "type": "object"})),
    ("json_schema", json.dumps({"allOf": [{"anyOf": [{"minimum": n}, {"maximum": -n}]} for n in range(40)]})),
    ("json_schema", json.dumps({"type": "object", "minProperties": 500, "additionalProperties": {"type": "null"}})),
    ("json_schema", '{"$ref": "#/' + "$defs/a/" * 5_000 + '"}'),
    ("json_schema", '{"enum": []}'),
    ("json_schema", "false"),
    ("ebnf", 'root ::= root "a" | "b"'),
    ("ebnf", 'root ::= a\na ::= b | ""\nb ::= a a a'),
    ("ebnf", 'root ::= "a" root'),
    ("ebnf", 'root ::= "a" nothing\nnothing ::= nothing "b"'),
    ("ebnf", "root ::= " + " | ".join(f'"{number} " root' for number in range(3_000))),
    ("ebnf", "\n".join(["root ::= r0", *(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(60)), 'r60 ::= "a"'])),
    ("ebnf", 'root ::= Token("<none>")'),
    ("ebnf", 'root ::= Token("' * 2_000),
    ("choice", json.dumps(["a" * number for number in range(1, 400)])),
    (
        "structural_tag",
        json.dumps({"structures": [{"begin": f"<{n}>", "end": ""} for n in range(800)], "triggers": ["<"]}),
    ),
    ("structural_tag", '{"format": ' + '{"type": "star", "content": ' * 60 + '{"type": "any_text"}' + "}" * 61),
    ("structural_tag", '{"format": {"type": "tag", "begin": "<|im_end|>", "content": 5, "end": []}}'),
    ("structural_tag", '{"type": "structural_tag", "format": {"type": "sequence", "elements": []}}'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "source"), SOURCES, ids=[f"{kind}-{source[:12]!a}" for kind, source in SOURCES])
def test_a_hostile_source_is_compiled_or_refused(maker: HostedMaker, kind: str, source: str) -> None:
    host, refusal = maker.host_pid, None
    try:
        maker.make(kind, source, lambda _: None)
    except RequestError as error:
        refusal = error
    assert refusal is None or (refusal.status_code == 400 and len(str(refusal)) < 2000)
    assert maker.make("regex", "ab", lambda _: None).matcher() is not None
    assert maker.host_pid == host, "the host has lived through it"
