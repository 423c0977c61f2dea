"""OutputPlanner: what an answer may be, from its reasoning to its calls, as one grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hookline.errors import RequestError
from hookline.formats.wire import MAX_CALLS
from hookline.interfaces.api import CallRules
from hookline.interfaces.parsers import FunctionCallParser, ReasoningContext, ReasoningSpan
from hookline.plugins.plan import PluginPlan
from hookline.sampling_params import SamplingParams

_TAG = "structural_tag"


class OutputPlanner:
    """Composes what the chosen parsers say of their formats."""

    def __init__(self, plan: PluginPlan) -> None:
        self._plan = plan

    def span(self, context: ReasoningContext) -> ReasoningSpan | None:
        """Where the reasoning of an output stands; ``None`` without a parser that says so."""
        chosen = self._plan.of_kind("reasoning_parsers")
        if not chosen:
            return None
        span: ReasoningSpan | None = self._plan.load(chosen[0])(context).span()
        return span

    def needed_span(self, context: ReasoningContext) -> ReasoningSpan:
        """The same for a request that bounds it. ``RequestError`` if it cannot be bounded."""
        span = self.span(context)
        if span is not None:
            return span
        chosen = self._plan.of_kind("reasoning_parsers")
        what = (
            f"the reasoning parser '{chosen[0].name}' does not say"
            if chosen
            else "this server has none (--reasoning-parser)"
        )
        raise RequestError(
            f"max_thinking_tokens needs a reasoning parser that says where reasoning ends: {what}",
            param="max_thinking_tokens",
        )

    def constrained(self, params: SamplingParams, rules: CallRules, context: ReasoningContext) -> SamplingParams | None:
        """``constrain`` with what was chosen."""
        chosen = self._plan.of_kind("function_call_parsers")
        knows_formats = any("tag_formats" in spec.features for spec in self._plan.of_kind("grammar_backends"))
        parser = self._plan.load(chosen[0]) if chosen and knows_formats else None
        span = self.span(context) if params.grammar is not None and knows_formats else None
        return constrain(params, rules, span, parser)


def constrain(
    params: SamplingParams,
    rules: CallRules,
    span: ReasoningSpan | None,
    parser: type[FunctionCallParser] | None,
) -> SamplingParams | None:
    """``params`` with a grammar of all that may follow the reasoning: an answer, calls, or either.

    ``parser`` is that of calls; ``None`` if there is none, or no backend that takes its formats. The result is ``None``
    if calls are required and cannot be demanded in the model's own format.
    """
    if rules.required:
        calls = _calls(rules, parser, is_required=True)
        return None if calls is None else _tagged(params, calls)
    if params.grammar is not None:
        return _answer_or_calls(params, rules, span, parser)
    if not any(tool["function"].get("strict") is True for tool in rules.tools):
        return params
    calls = _calls(rules, parser, is_required=False)
    return params if calls is None else _tagged(params, calls)


def _answer_or_calls(
    params: SamplingParams, rules: CallRules, span: ReasoningSpan | None, parser: type[FunctionCallParser] | None
) -> SamplingParams:
    """The grammar of an answer, in the frame of the model's answers, or calls in its place."""
    assert params.grammar is not None
    kind, source = params.grammar
    answer = _FORMATS[kind](source)
    # What a structural tag says of calls is its author's affair.
    calls = None if kind == _TAG else _calls(rules, parser, is_required=True)
    frame = "" if span is None else span.answer_open
    if answer is None or (calls is None and not frame):
        return params
    if frame:
        answer = {"type": "sequence", "elements": [{"type": "const_string", "value": frame}, answer]}
    return _tagged(params, answer if calls is None else {"type": "or", "elements": [answer, calls]})


def _calls(rules: CallRules, parser: type[FunctionCallParser] | None, *, is_required: bool) -> Mapping[str, Any] | None:
    if parser is None or not rules.tools:
        return None
    write = parser.required_calls if is_required else parser.triggered_calls
    return write(rules.tools, max_calls=MAX_CALLS if rules.parallel else 1)


def _tagged(params: SamplingParams, form: Mapping[str, Any] | None) -> SamplingParams:
    """With this format in place of any other grammar."""
    source = json.dumps({"type": _TAG, "format": form}, ensure_ascii=False)
    none: dict[str, Any] = dict.fromkeys(("json_schema", "json_object", "regex", "ebnf", "choice"))
    return params.replace(**none, structural_tag=source)


def _schema(source: str) -> dict[str, Any] | None:
    try:
        return {"type": "json_schema", "json_schema": json.loads(source)}
    except (ValueError, RecursionError):
        # The grammar backend says what is wrong with it.
        return None


def _choice(source: str) -> dict[str, Any]:
    texts: Sequence[str] = json.loads(source)
    return {"type": "or", "elements": [{"type": "const_string", "value": text} for text in texts]}


def _inner(source: str) -> dict[str, Any] | None:
    try:
        tag = json.loads(source)
    except (ValueError, RecursionError):
        return None
    form = tag.get("format") if isinstance(tag, dict) else None
    return form if isinstance(form, dict) else None


_FORMATS = {
    "json_schema": _schema,
    "json_object": _schema,
    "regex": lambda source: {"type": "regex", "pattern": source},
    "ebnf": lambda source: {"type": "grammar", "grammar": source},
    "choice": _choice,
    _TAG: _inner,
}
