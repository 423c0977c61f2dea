from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.testkit.splits import all_ways, cut, fragments
from hookline.text.json_stream import JsonObjectScanner

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
_objects = st.dictionaries(st.text(), _values, max_size=4)


def _scan(pieces: list[str], **options: Any) -> tuple[str, int, list[tuple[str, str, bool]]]:
    """Status, number of characters read, and joined values in order of their beginning."""
    scanner = JsonObjectScanner(**options)
    read, members = 0, []
    for piece in pieces:
        if scanner.status != "open":
            break
        position, told = scanner.feed(piece)
        assert position == len(piece) or scanner.status != "open"
        read += position
        members += [(member.key, member.raw, member.is_last) for member in told]
    joined: list[tuple[str, str, bool]] = []
    for key, raw, is_last in members:
        if joined and not joined[-1][2]:
            assert joined[-1][0] == key
            joined[-1] = (key, joined[-1][1] + raw, is_last)
        else:
            joined.append((key, raw, is_last))
    return scanner.status, read, joined


@settings(deadline=None)
@given(_objects, st.booleans(), st.sampled_from([None, 1]), st.data())
def test_every_object_is_read_to_its_end_whatever_the_cuts(
    value: dict[str, Any], ascii_only: bool, indent: int | None, data: st.DataObject
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent) + "rest"
    _, pieces = data.draw(cut(st.just(text)))
    status, read, members = _scan(pieces)
    assert (status, read) == ("done", len(text) - len("rest"))
    assert {key: json.loads(raw) for key, raw, _ in members} == value
    assert all(is_last for _, _, is_last in members)


@settings(deadline=None)
@given(
    cut(
        fragments(
            *'{}[],:" \n\\-0123.eE+a/u',
            '{"a":',
            '"k":',
            '"\\u00e9"',
            '"\\ud83d"',
            "true",
            "fals",
            "null",
            "1.5e-3",
            "-",
            '"x\ty"',
        ).map(lambda text: "{" + text)
    )
)
def test_any_text_is_judged_as_the_json_module_judges_it(case: tuple[str, list[str]]) -> None:
    text, pieces = case
    status, read, members = _scan(pieces)
    assert (status, read, members) == _scan([text])
    try:
        # Not strict: control characters in strings are allowed, as the scanner allows them.
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except json.JSONDecodeError:
        assert status != "done"
    else:
        assert (status, read) == ("done", end)
        assert {key: json.loads(raw) for key, raw, _ in members} == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 01}',
        '{"a": 1.}',
        '{"a": .5}',
        '{"a": +1}',
        '{"a": 1e}',
        '{"a": NaN}',
        '{"a": tru}',
        '{"a": True}',
        "{'a': 1}",
        '{"a" 1}',
        '{"a": 1,}',
        '{"a": [1,]}',
        '{"a": [1}',
        '{"a": {]}',
        '{"a": "\\x"}',
        '{"a": "\\u12g4"}',
        '{,"a": 1}',
        '{"a": ²}',
        "[]",
        "x",
    ],
)
def test_malformed_text_is_bad_for_every_way_of_cutting(text: str) -> None:
    answers = [_scan(pieces) for pieces in all_ways(text)]
    assert answers[0][0] == "bad"
    assert all(answer == answers[0] for answer in answers)


def test_line_breaks_inside_strings_come_out_escaped() -> None:
    for pieces in all_ways('{"code": "a\n\tb\x00"}'):
        _, _, members = _scan(pieces)
        assert members == [("code", '"a\\n\\tb\\u0000"', True)]


def test_values_are_told_while_they_are_written() -> None:
    scanner = JsonObjectScanner()
    assert scanner.feed('{"a": {"b": [1, ')[1][0].raw == '{"b": [1, '
    (piece,) = scanner.feed('2]}, "c')[1]
    assert (piece.raw, piece.is_last) == ("2]}", True)


def test_nesting_beyond_the_limit_is_bad() -> None:
    deep = '{"a": ' + "[" * 40 + "]" * 40 + "}"
    assert _scan([deep])[0] == "done"
    assert _scan([deep], max_depth=20)[0] == "bad"
