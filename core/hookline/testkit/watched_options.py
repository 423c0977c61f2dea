"""Options that remember which of them were read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def watched(options: BaseModel) -> tuple[BaseModel, set[str]]:
    """A copy of a plugin's options, and the names of those that were read from it so far."""
    model = type(options)
    fields = frozenset(model.model_fields)
    read: set[str] = set()

    class Watched(model):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if name in fields:
                read.add(name)
            return super().__getattribute__(name)

        def __iter__(self) -> Iterator[tuple[str, Any]]:
            read.update(fields)
            yield from super().__iter__()

        def model_dump(self, **how: Any) -> dict[str, Any]:
            read.update(fields)
            dumped: dict[str, Any] = super().model_dump(**how)
            return dumped

    copy: BaseModel = Watched.model_construct(**{name: getattr(options, name) for name in fields})
    read.clear()
    return copy, read
