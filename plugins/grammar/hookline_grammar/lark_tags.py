"""LarkTags: structural tags as Lark grammars of the llguidance library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from hookline.errors import RequestError
from hookline.interfaces.grammar import UnsupportedGrammarError
from hookline_grammar.special_tokens import SpecialTokens

_PARAM = "structural_tag"
#: What each format may say; anything else is not known here.
_KEYS = {
    "const_string": {"value"},
    "token": {"token"},
    "json_schema": {"json_schema", "style"},
    "regex": {"pattern"},
    "any_text": set[str](),
    "sequence": {"elements"},
    "or": {"elements"},
    "optional": {"content"},
    "star": {"content"},
    "plus": {"content"},
    "repeat": {"content", "min", "max"},
    "tag": {"begin", "content", "end"},
    "tags_with_separator": {"tags", "separator", "at_least_one", "stop_after_first"},
}
_MARKS = {"optional": "?", "star": "*", "plus": "+"}


class LarkTags:
    """Writes one structural tag. ``schema`` gives the text of a JSON schema, checked; ``pattern`` that of a regex."""

    def __init__(self, tokens: SpecialTokens, schema: Callable[[Any], str], pattern: Callable[[str], str]) -> None:
        self._tokens = tokens
        self._schema = schema
        self._pattern = pattern
        self._rules: list[str] = []
        self._writers: dict[str, Callable[[dict[str, Any]], str]] = {
            "const_string": lambda node: self._text(node.get("value")),
            "token": lambda node: f"<[{tokens.resolve(node.get('token'), _PARAM)}]>",
            "json_schema": self._document,
            "regex": lambda node: self._rule(f"/{self._pattern(_string(node.get('pattern')))}/", is_terminal=True),
            "any_text": lambda node: self._rule("/(.|\\n)*/", is_terminal=True),
            "sequence": lambda node: " ".join(map(self._node, _list(node.get("elements")))),
            "or": self._or,
            "optional": self._repeated,
            "star": self._repeated,
            "plus": self._repeated,
            "repeat": self._counted,
            "tag": self._tag,
            "tags_with_separator": self._separated,
        }

    def write(self, form: Any) -> str:
        """The grammar of a format. ``UnsupportedGrammarError`` for one that is not known here."""
        start = self._node(form)
        return "\n".join([f"start: {start}", *self._rules, ""])

    def _node(self, node: Any) -> str:
        kind = node.get("type") if isinstance(node, dict) else None
        if kind is None:
            raise RequestError(f"structural_tag: a format must have a 'type', not {node!r:.80}", param=_PARAM)
        if kind not in self._writers:
            _refuse(f"the format '{kind}'")
        unknown = sorted(node.keys() - _KEYS[kind] - {"type"})
        if unknown:
            _refuse(f"'{unknown[0]}' in the format '{kind}'")
        return self._writers[kind](node)

    def _rule(self, body: str, *, is_terminal: bool = False, attributes: str = "") -> str:
        name = f"{'T' if is_terminal else 't'}{len(self._rules)}"
        self._rules.append(f"{name}{attributes}: {body}")
        return name

    def _text(self, text: Any) -> str:
        parts = self._tokens.split(_string(text))
        return " ".join(f"<[{part}]>" if isinstance(part, int) else _quoted(part) for part in parts) or '""'

    def _document(self, node: dict[str, Any]) -> str:
        if node.get("style", "json") != "json":
            _refuse(f"the style {node['style']!r:.40}")
        return self._rule(f"%json {self._schema(node.get('json_schema'))}")

    def _or(self, node: dict[str, Any]) -> str:
        return "(" + " | ".join(map(self._node, _list(node.get("elements")))) + ")"

    def _repeated(self, node: dict[str, Any]) -> str:
        return f"({self._node(node.get('content'))}){_MARKS[node['type']]}"

    def _counted(self, node: dict[str, Any]) -> str:
        low, high = node.get("min"), node.get("max")
        if not isinstance(low, int) or not isinstance(high, int) or not low >= 0:
            raise RequestError("structural_tag: a 'repeat' needs 'min' and 'max', numbers", param=_PARAM)
        return f"({self._node(node.get('content'))}){{{low},{'' if high < 0 else high}}}"

    def _tag(self, node: dict[str, Any]) -> str:
        begin, content, end = node.get("begin"), node.get("content"), node.get("end")
        opening = self._node(begin) if isinstance(begin, dict) else self._text(begin)
        if content == {"type": "any_text"}:
            return f"{opening} {self._text_up_to(end)}"
        if isinstance(end, list):
            closing = "(" + " | ".join(map(self._text, end)) + ")"
        else:
            closing = self._node(end) if isinstance(end, dict) else self._text(end)
        return f"{opening} {self._node(content)} {closing}"

    def _text_up_to(self, end: Any) -> str:
        """Any text, and what ends it."""
        if isinstance(end, dict):
            return f"{self._node({'type': 'any_text'})} {self._node(end)}"
        if not isinstance(end, str) or not end:
            _refuse("text without one end")
        before, *rest = self._tokens.split(end)
        if isinstance(before, int):
            return f"{self._node({'type': 'any_text'})} {self._text(end)}"
        if not rest:
            return self._rule("/(.|\\n)*/", attributes=f"[suffix={_quoted(end)}]")
        # In one lexeme with the text, which would otherwise take it in; the token behind it ends both.
        closing = self._text(end[len(before) :])
        text = self._rule(f"/(.|\\n)*{_escaped(before)}/", is_terminal=True)
        return f"{text} {closing}"

    def _separated(self, node: dict[str, Any]) -> str:
        one = "(" + " | ".join(map(self._node, _list(node.get("tags")))) + ")"
        more = "" if node.get("stop_after_first") else f"({self._text(node.get('separator'))} {one})*"
        return f"{one} {more}" if node.get("at_least_one") else f"({one} {more})?"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    return re.escape(text).replace("/", "\\/")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError(f"structural_tag: a text is expected, not {value!r:.80}", param=_PARAM)
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise RequestError(f"structural_tag: a list is expected, and not an empty one, not {value!r:.80}", param=_PARAM)
    return value


def _refuse(what: str) -> NoReturn:
    raise UnsupportedGrammarError(
        f"structural_tag: {what} is not known to the grammar backend 'llguidance'", param=_PARAM
    )
