"""Parts of JSON schemas: what references point to, and a part as a document of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: References that are followed inside of each other.
_MAX_DEPTH = 32


def follow(schema: Any, root: Any) -> Mapping[str, Any]:
    """The schema behind references into its own document; {} if there is none."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = root if reference.startswith("#") else None
        for part in reference.lstrip("#").split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            schema = schema.get(part) if isinstance(schema, Mapping) else None
    return {}


def moved(schema: Any, place: str) -> Any:
    """The schema with references to its own parts as they are once it stands at ``place`` ("#/$defs/x")."""
    if isinstance(schema, Mapping):
        copy = {key: moved(value, place) for key, value in schema.items()}
        target = schema.get("$ref")
        if isinstance(target, str) and target.startswith("#"):
            copy["$ref"] = place + target[1:]
        return copy
    if isinstance(schema, list):
        return [moved(item, place) for item in schema]
    return schema


def part(schema: Any, root: Any) -> Any:
    """A part of ``root`` as a document of its own; what it refers to comes with it."""
    if not isinstance(schema, Mapping) or not _has_references(schema):
        return schema
    return {**moved(schema, "#/$defs/whole"), "$defs": {"whole": moved(root, "#/$defs/whole")}}


def _has_references(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(map(_has_references, schema.values()))
    return isinstance(schema, list) and any(map(_has_references, schema))
