"""Structural tags: text in which a trigger begins a tag that holds a JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.grammar import UnsupportedGrammarError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """``begin``, a document of ``schema``, ``end``. ``begin`` starts with ``trigger``."""

    trigger: str
    begin: str
    schema: dict[str, Any] | bool
    end: str


def renewed(tag: object) -> object:
    """A structural tag of the older form ({"structures", "triggers"}) in the present one; others as they are."""
    if not isinstance(tag, dict) or "structures" not in tag:
        return tag
    try:
        tags = [
            {
                "type": "tag",
                "begin": item["begin"],
                "content": {"type": "json_schema", "json_schema": item.get("schema", {})},
                "end": item["end"],
            }
            for item in tag["structures"]
        ]
        triggers = tag["triggers"]
    except (KeyError, TypeError, AttributeError) as exc:
        raise RequestError(
            "structural_tag with 'structures' needs 'triggers' too, and in each structure 'begin' and 'end'",
            param="structural_tag",
        ) from exc
    return {"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": triggers, "tags": tags}}


def schemas_in(tag: object) -> Iterator[object]:
    """The JSON schemas in a structural tag."""
    pending = [tag]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "json_schema" in node:
                yield node["json_schema"]
            pending.extend(value for key, value in node.items() if key != "json_schema")
        elif isinstance(node, list):
            pending.extend(node)


def triggered_tags(source: object, backend: str) -> list[Tag]:
    """The tags of a structural tag that is text with triggers and documents, and nothing else.

    ``UnsupportedGrammarError`` for another format, ``RequestError`` for what is none.
    """
    tag = renewed(source)
    form = tag.get("format") if isinstance(tag, dict) else None
    if not isinstance(form, dict) or "type" not in form:
        raise RequestError("structural_tag needs 'format' (or 'structures' and 'triggers')", param="structural_tag")
    unknown = form.keys() - {"type", "triggers", "tags"}
    if form["type"] != "triggered_tags" or unknown:
        what = f"the format '{form['type']}'" if form["type"] != "triggered_tags" else f"'{sorted(unknown)[0]}'"
        raise UnsupportedGrammarError(
            f"structural_tag: {what} is not known to the grammar backend '{backend}', which takes triggered_tags with "
            "triggers and tags",
            param="structural_tag",
        )
    tags, triggers = form.get("tags"), form.get("triggers")
    if not isinstance(tags, list) or not isinstance(triggers, list) or not _are_texts(triggers) or not tags:
        raise RequestError(
            "structural_tag of the format triggered_tags needs 'triggers', a list of texts, and 'tags', a list",
            param="structural_tag",
        )
    return [_tag(item, triggers, backend) for item in tags]


def _tag(item: object, triggers: list[str], backend: str) -> Tag:
    content = item.get("content") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(content, dict) or not _are_texts([item.get("begin")]):
        raise RequestError("structural_tag: each tag needs 'begin', 'content' and 'end'", param="structural_tag")
    if content.get("type") != "json_schema" or not isinstance(item.get("end"), str):
        raise UnsupportedGrammarError(
            f"structural_tag: the grammar backend '{backend}' takes tags whose content is a json_schema and whose end "
            "is one text",
            param="structural_tag",
        )
    begin = str(item["begin"])
    found = [trigger for trigger in triggers if begin.startswith(trigger)]
    if not found:
        raise RequestError(f"structural_tag: no trigger begins the tag {begin!r:.80}", param="structural_tag")
    return Tag(trigger=max(found, key=len), begin=begin, schema=content.get("json_schema", {}), end=item["end"])


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)
