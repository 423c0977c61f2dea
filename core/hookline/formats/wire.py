"""How calls of given tools are written in a model's own format, as a structural tag that a grammar can follow.

The formats of structural tags are those of https://xgrammar.mlc.ai (sequence, tag, triggered_tags, optional, repeat,
or, const_string, json_schema, regex, any_text).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hookline.formats.description import WrittenCalls
from hookline.formats.wire_values import Structure, ValueWriter, either, optional, sequence, text

#: Calls that one answer may hold where calls are demanded.
MAX_CALLS = 32
#: Arguments of functions that take none.
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
#: Keywords of a Python call without a schema, up to its bracket.
_ANY_KEYWORDS = r"""([^()"']|"([^"\\\n]|\\.)*"|'([^'\\\n]|\\.)*'|\([^()]*\))*"""


def required_calls(
    written: WrittenCalls, tools: Sequence[Mapping[str, Any]], *, max_calls: int = MAX_CALLS
) -> Structure:
    """The format of one call or more, up to ``max_calls``, and of nothing else.

    ``tools`` are OpenAI's tool objects. Arguments are held to their schema, with the properties in its order, for
    formats that write them one by one the required ones first.
    """
    return _CallWriter(written, tools).block(max_calls)


def triggered_calls(
    written: WrittenCalls, tools: Sequence[Mapping[str, Any]], *, max_calls: int = MAX_CALLS
) -> Structure:
    """The format of any text in which a call, once it has begun, is one of these tools' and whole.

    Arguments of functions that are ``strict`` follow their schema; those of others are an object. With ``max_calls``
    of 1 the output ends behind the first call.
    """
    return _CallWriter(written, tools, only_strict=True).triggered(max_calls)


class _CallWriter:
    def __init__(self, written: WrittenCalls, tools: Sequence[Mapping[str, Any]], *, only_strict: bool = False) -> None:
        self._written = written
        self._functions = [tool["function"] for tool in tools]
        self._only_strict = only_strict
        self._values = ValueWriter(written)

    def block(self, max_calls: int) -> Structure:
        """Calls in their frame."""
        return sequence(text(self._written.open), self._calls(max_calls), text(self._written.close))

    def triggered(self, max_calls: int) -> Structure:
        """Text with calls."""
        written = self._written
        first = written.open or written.call_open.partition("{name}")[0]
        if written.trigger is None:
            tags = [self._named_tag(function, max_calls) for function in self._functions]
            triggers = [tag["begin"] for tag in tags]
        else:
            triggers = [written.trigger or first.split()[0]]
            if written.open:
                content = sequence(self._calls(max_calls))
                tags = [{"type": "tag", "begin": written.open, "content": content, "end": written.close}]
            else:
                tags = [self._call(function) for function in self._functions]
        ends: Structure = {"stop_after_first": True} if max_calls == 1 or written.is_single else {}
        return {"type": "triggered_tags", "triggers": triggers, "tags": tags, **ends}

    def _calls(self, max_calls: int) -> list[Structure]:
        one = either([self._call(function) for function in self._functions])
        return [one, *self._further(one, max_calls - 1)]

    def _further(self, one: Structure, max_calls: int) -> list[Structure]:
        if max_calls < 1 or self._written.is_single:
            return []
        content = sequence(text(self._written.separator), [one])
        return [{"type": "repeat", "min": 0, "max": max_calls, "content": content}]

    def _named_tag(self, function: Mapping[str, Any], max_calls: int) -> Structure:
        """A block of calls that begins with a call of this function."""
        begin, arguments = self._parts(function)
        one = either([self._call(each) for each in self._functions])
        content = sequence(arguments, text(self._written.call_close), self._further(one, max_calls - 1))
        return {"type": "tag", "begin": self._written.open + begin, "content": content, "end": self._written.close}

    def _call(self, function: Mapping[str, Any]) -> Structure:
        begin, arguments = self._parts(function)
        return {"type": "tag", "begin": begin, "content": sequence(arguments), "end": self._written.call_close}

    def _parts(self, function: Mapping[str, Any]) -> tuple[str, list[Structure]]:
        """What a call begins with, and its arguments."""
        # Which number a call has is not for a grammar to count.
        begin, number, rest = self._written.call_open.replace("{name}", function["name"]).partition("{index}")
        digits: list[Structure] = [{"type": "regex", "pattern": "[0-9]+"}, *text(rest)] if number else []
        return begin, [*digits, *self._arguments(function)]

    def _arguments(self, function: Mapping[str, Any]) -> list[Structure]:
        is_free = self._only_strict and function.get("strict") is not True
        how = self._written.arguments
        if how == "json":
            schema = {"type": "object"} if is_free else arguments_schema(function)
            return [{"type": "json_schema", "json_schema": schema}]
        if is_free:
            is_python = how == "python"
            return [{"type": "regex", "pattern": _ANY_KEYWORDS} if is_python else self._values.any_parameters()]
        schema = arguments_schema(function)
        return self._parameters(schema) if how == "parameters" else self._keywords(schema)

    def _parameters(self, schema: Mapping[str, Any]) -> list[Structure]:
        required, may_miss = self._values.properties(schema)
        return [
            *(self._values.parameter(key, value, schema) for key, value in required),
            *(optional(self._values.parameter(key, value, schema)) for key, value in may_miss),
        ]

    def _keywords(self, schema: Mapping[str, Any]) -> list[Structure]:
        required, may_miss = self._values.properties(schema)
        must = [self._values.keyword(key, value, schema) for key, value in required]
        may = [self._values.keyword(key, value, schema) for key, value in may_miss]
        if must:
            commas = [part for each in must[1:] for part in (*text(", "), each)]
            return [must[0], *commas, *(optional(sequence(text(", "), [each])) for each in may)]
        # Any of the optional ones may be the first.
        firsts = [
            sequence([may[at]], [optional(sequence(text(", "), [each])) for each in may[at + 1 :]])
            for at in range(len(may))
        ]
        return [optional(either(firsts))] if firsts else []


def arguments_schema(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a function's arguments, which are an object whether or not it says so."""
    schema = function.get("parameters")
    if not schema:
        return _NO_PARAMETERS
    return schema if "type" in schema or "$ref" in schema else {"type": "object", **schema}
