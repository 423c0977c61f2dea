"""What an answer may be: grammars of answers, calls, or either."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hookline.frontend.output_plan import constrain
from hookline.interfaces.api import CallRules
from hookline.interfaces.parsers import FunctionCallParser, ReasoningSpan
from hookline.sampling_params import SamplingParams
from tests.parsers.formats import parser_class

_STRICT = {"type": "function", "function": {"name": "f", "strict": True}}
_LOOSE = {"type": "function", "function": {"name": "g"}}
_FRAMED = ReasoningSpan(open="<a>", close="</a>", state="possible", answer_open="<final>")


def _form(params: SamplingParams | None) -> Any:
    """The format of the grammar that was made; the kind of one that was left as it was."""
    assert params is not None
    assert params.grammar is not None
    kind, source = params.grammar
    return json.loads(source)["format"] if kind == "structural_tag" else kind


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"json_schema": '{"type": "null"}'}, {"type": "json_schema", "json_schema": {"type": "null"}}),
        ({"json_object": True}, {"type": "json_schema", "json_schema": {"type": "object"}}),
        ({"regex": "a+"}, {"type": "regex", "pattern": "a+"}),
        ({"ebnf": 'root ::= "a"'}, {"type": "grammar", "grammar": 'root ::= "a"'}),
        ({"choice": ("a",)}, {"type": "or", "elements": [{"type": "const_string", "value": "a"}]}),
    ],
)
def test_an_answer_or_calls(given: dict[str, Any], answer: dict[str, Any]) -> None:
    params, qwen = SamplingParams(**given), parser_class("qwen25")
    assert constrain(params, CallRules(), None, qwen) is params
    either = _form(constrain(params, CallRules(tools=[_LOOSE]), None, qwen))
    calls = _form(constrain(SamplingParams(), CallRules(tools=[_LOOSE], required=True), None, qwen))
    assert either == {"type": "or", "elements": [answer, calls]}
    # Frames stand before answers alone.
    head = {"type": "const_string", "value": "<final>"}
    framed = {"type": "sequence", "elements": [head, answer]}
    assert _form(constrain(params, CallRules(), _FRAMED, qwen)) == framed
    assert _form(constrain(params, CallRules(tools=[_LOOSE]), _FRAMED, qwen))["elements"][0] == framed
    # Without a known format of calls the grammar is that of the answer.
    assert constrain(params, CallRules(tools=[_LOOSE]), None, None) is params


def test_strict_functions_constrain_their_calls_alone() -> None:
    params, qwen = SamplingParams(), parser_class("qwen25")
    assert constrain(params, CallRules(tools=[_LOOSE]), None, qwen) is params
    assert constrain(params, CallRules(tools=[_STRICT]), None, None) is params
    assert _form(constrain(params, CallRules(tools=[_STRICT, _LOOSE]), None, qwen))["type"] == "triggered_tags"


def test_a_tag_of_the_client_stays() -> None:
    params = SamplingParams(structural_tag='{"format": {"type": "any_text"}}')
    assert constrain(params, CallRules(tools=[_STRICT]), None, parser_class("qwen25")) is params


def test_a_schema_that_is_none_stays_for_the_backend_to_refuse() -> None:
    params = SamplingParams(json_schema="{")
    assert constrain(params, CallRules(tools=[_LOOSE]), None, parser_class("qwen25")) is params


@pytest.mark.parametrize("parser", [None, FunctionCallParser])
def test_required_calls_of_an_unknown_format(parser: type[FunctionCallParser] | None) -> None:
    assert constrain(SamplingParams(), CallRules(tools=[_LOOSE], required=True), None, parser) is None
