"""The kind "choice": a JSON array of texts, one of which is the whole output."""

from __future__ import annotations

import json
import re

from hookline.errors import RequestError
from hookline_grammar.schema_check import parse_json

_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}/-]")


def parse_choices(source: str) -> list[str]:
    """The texts; ``RequestError`` if it is not such an array."""
    texts = parse_json(source, "choice")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise RequestError(
            f"choice must be a list of texts, at least one, and none of them empty, not {source:.80}", param="choice"
        )
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise RequestError(f"choice holds half a character: {text!a:.80}", param="choice") from exc
    return list(dict.fromkeys(texts))


def as_rule(texts: list[str]) -> str:
    """The right side of a rule of alternatives, in the strings that EBNF and Lark have in common."""
    return " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def as_regex(texts: list[str]) -> str:
    """The texts as a regular expression."""
    return "|".join(_SPECIAL.sub(lambda match: "\\" + match[0], text) for text in texts)
