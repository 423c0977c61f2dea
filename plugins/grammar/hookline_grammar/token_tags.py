"""Structural tags whose texts name special tokens, written so that these are tokens and not their letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hookline.errors import RequestError
from hookline_grammar.special_tokens import SpecialTokens

Structure = dict[str, Any]
Part = str | int

_PARAM = "structural_tag"
#: Formats that hold free text in which special tokens may stand.
_FREE = frozenset(
    {"triggered_tags", "dispatch", "token_triggered_tags", "token_dispatch", "any_tokens", "exclude_token"}
)
#: Text of any length; unlike any_text it may stand before something else, and takes no special token.
_ANY_TEXT: Structure = {"type": "regex", "pattern": r"[\s\S]*"}


class TokenTags:
    """Rewrites structural tags: the markers that are written in their texts become tokens.

    What is malformed is left as it is, for the library to refuse.
    """

    def __init__(self, tokens: SpecialTokens) -> None:
        self._tokens = tokens

    def write(self, tag: object) -> object:
        """A structural tag of the present form."""
        if not isinstance(tag, dict) or "format" not in tag:
            return tag
        return {**tag, "format": self._node(tag["format"], is_inside=False)}

    def _node(self, node: Any, *, is_inside: bool) -> Any:
        """``is_inside``: whether a tag holds the node."""
        if not isinstance(node, dict):
            return node
        kind = node.get("type")
        if kind == "const_string":
            parts = self._split(node.get("value"))
            return node if parts is None else _joined(_formats(parts))
        if kind == "any_text":
            return node if is_inside or node.keys() - {"type"} or not self._tokens.ids else {"type": "any_tokens"}
        if kind == "tag":
            return self._tag(node)
        if kind == "tags_with_separator":
            return self._separated(node)
        if kind == "triggered_tags":
            return self._triggered(node)
        node = self._resolved(node)
        if "content" in node:
            node = {**node, "content": self._node(node["content"], is_inside=is_inside)}
        if isinstance(node.get("elements"), list):
            node = {**node, "elements": [self._node(each, is_inside=is_inside) for each in node["elements"]]}
        if isinstance(node.get("tags"), list):
            node = {**node, "tags": [self._node(each, is_inside=is_inside) for each in node["tags"]]}
        if isinstance(node.get("rules"), list):
            node = {**node, "rules": [self._rule(rule, is_inside=is_inside) for rule in node["rules"]]}
        return node

    def _rule(self, rule: Any, *, is_inside: bool) -> Any:
        if not isinstance(rule, list) or len(rule) != 2:
            return rule
        return [rule[0], self._node(rule[1], is_inside=is_inside)]

    def _resolved(self, node: Structure) -> Structure:
        """A node with the tokens that it names by their texts as ids."""
        found: Structure = {}
        if node.get("type") == "token":
            found["token"] = self._tokens.resolve(node.get("token"), _PARAM)
        for key in ("exclude_tokens", "trigger_tokens"):
            if isinstance(node.get(key), list):
                found[key] = [self._tokens.resolve(token, _PARAM) for token in node[key]]
        if node.get("type") == "token_dispatch" and isinstance(node.get("rules"), list):
            found["rules"] = [
                [self._tokens.resolve(rule[0], _PARAM), rule[1]] if isinstance(rule, list) and len(rule) == 2 else rule
                for rule in node["rules"]
            ]
        return {**node, **found}

    def _tag(self, node: Structure, trigger: str = "") -> Structure:
        """A tag; what ``trigger`` says of its beginning stays text."""
        begin, end = node.get("begin"), node.get("end")
        opening = self._opening(begin, trigger)
        content = self._node(node.get("content"), is_inside=True)
        if isinstance(end, list):
            closings = [self._split(each) for each in end]
            if all(each is None for each in closings):
                return _tag(node, opening, content, [], end)
            ends = [_joined(_formats(parts or _plain(each))) for parts, each in zip(closings, end, strict=True)]
            return _tag(node, opening, _ended(content), [{"type": "or", "elements": ends}], "")
        if isinstance(end, dict):
            return _tag(node, opening, content, [], self._resolved(end))
        closing = self._split(end)
        if closing is None:
            return _tag(node, opening, content, [], end)
        *before, last = _formats(closing)
        is_text = last["type"] == "const_string"
        return _tag(node, opening, _ended(content) if before else content, before, last["value"] if is_text else last)

    def _opening(self, begin: Any, trigger: str) -> list[Any]:
        """What a tag begins with: the text or token that is its ``begin``, then formats."""
        if isinstance(begin, dict):
            return [self._resolved(begin)]
        if not isinstance(begin, str):
            return [begin]
        parts: list[Part] = self._split(begin[len(trigger) :]) or _plain(begin[len(trigger) :])
        if trigger or not parts:
            return [trigger, *_formats(parts)]
        first, *rest = _formats(parts)
        return [first["value"] if first["type"] == "const_string" else first, *rest]

    def _triggered(self, node: Structure) -> Structure:
        triggers, tags = node.get("triggers"), node.get("tags")
        if not isinstance(triggers, list) or not isinstance(tags, list):
            return node
        written = []
        for tag in tags:
            begin = tag.get("begin") if isinstance(tag, dict) else None
            if not isinstance(begin, str) or self._split(begin) is None:
                written.append(self._node(tag, is_inside=True))
                continue
            fitting = [each for each in triggers if isinstance(each, str) and each and begin.startswith(each)]
            if not fitting:
                raise RequestError(f"structural_tag: no trigger begins the tag {begin!r:.80}", param=_PARAM)
            # A trigger is looked for in the letters of special tokens, too.
            written.append(self._tag(tag, max(fitting, key=len)))
        return {**node, "tags": written}

    def _separated(self, node: Structure) -> Structure:
        tags = node.get("tags")
        if not isinstance(tags, list):
            return node
        written = [self._node(tag, is_inside=True) for tag in tags]
        separator = self._split(node.get("separator"))
        if separator is None or node.get("stop_after_first"):
            return {**node, "tags": written, **({} if separator is None else {"separator": ""})}
        one: Structure = {"type": "or", "elements": written}
        more: Structure = {"type": "star", "content": _joined([*_formats(separator), one])}
        all_of_them = _joined([one, more])
        return all_of_them if node.get("at_least_one") else {"type": "optional", "content": all_of_them}

    def _split(self, text: Any) -> list[Part] | None:
        """The pieces of a text; ``None`` if it names no special token, or is none."""
        parts = self._tokens.split(text) if isinstance(text, str) else []
        return parts if any(isinstance(part, int) for part in parts) else None


def has_free_text(tag: object) -> bool:
    """Whether a structural tag has text outside of tags, where special tokens may stand as they like."""
    pending = [tag]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if node.get("type") in _FREE:
                return True
            pending.extend(value for key, value in node.items() if key != "json_schema")
        elif isinstance(node, list):
            pending.extend(node)
    return False


def _plain(text: Any) -> list[Part]:
    return [text] if isinstance(text, str) and text else []


def _formats(parts: Sequence[Part]) -> list[Structure]:
    return [
        {"type": "const_string", "value": part} if isinstance(part, str) else {"type": "token", "token": part}
        for part in parts
    ]


def _joined(elements: list[Structure]) -> Structure:
    if not elements:
        return {"type": "const_string", "value": ""}
    return elements[0] if len(elements) == 1 else {"type": "sequence", "elements": elements}


def _tag(node: Structure, opening: list[Any], content: Any, closing: list[Structure], end: Any) -> Structure:
    begin, *rest = opening
    if rest or closing:
        content = _joined([*rest, content, *closing])
    return {**node, "begin": begin, "content": content, "end": end}


def _ended(content: Any) -> Any:
    """Content behind which something other than the tag's own end follows: a special token, which no text holds."""
    return _ANY_TEXT if content == {"type": "any_text"} else content
