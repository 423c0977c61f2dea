"""BlockWriter: content blocks of a message, and the events that tell of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from hookline_api.chat.reader import Delta, DeltaKind

#: Stands where Anthropic's servers sign their thinking. Clients keep unsigned thinking back.
_SIGNATURE = "unsigned"
_FIELDS = {DeltaKind.REASONING: "thinking", DeltaKind.CONTENT: "text"}


class BlockWriter:
    """Puts deltas into blocks; whole and streamed answers are made by the same one."""

    def __init__(self) -> None:
        #: The blocks so far. The last one may be open.
        self.content: list[dict[str, Any]] = []
        self._kind: DeltaKind | None = None
        self._call = 0
        self._arguments: list[str] = []

    def write(self, delta: Delta) -> Iterator[dict[str, Any]]:
        """The events of a delta."""
        if delta.kind is not self._kind or (delta.kind is DeltaKind.CALL and delta.index != self._call):
            yield from self.close()
            yield self._open(delta)
        if not delta.text:
            return
        block = self.content[-1]
        if delta.kind is DeltaKind.CALL:
            self._arguments.append(delta.text)
            yield self._delta({"type": "input_json_delta", "partial_json": delta.text})
        else:
            field = _FIELDS[delta.kind]
            block[field] += delta.text
            yield self._delta({"type": f"{field}_delta", field: delta.text})

    def close(self) -> Iterator[dict[str, Any]]:
        """End the block that is open, if one is."""
        if self._kind is None:
            return
        if self._kind is DeltaKind.REASONING:
            self.content[-1]["signature"] = _SIGNATURE
            yield self._delta({"type": "signature_delta", "signature": _SIGNATURE})
        if self._kind is DeltaKind.CALL:
            self.content[-1]["input"] = _input("".join(self._arguments))
        self._kind = None
        yield {"type": "content_block_stop", "index": len(self.content) - 1}

    def _open(self, delta: Delta) -> dict[str, Any]:
        block: dict[str, Any]
        if delta.kind is DeltaKind.CALL:
            self._call, self._arguments = delta.index, []
            block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": delta.name, "input": {}}
        elif delta.kind is DeltaKind.REASONING:
            block = {"type": "thinking", "thinking": "", "signature": ""}
        else:
            block = {"type": "text", "text": ""}
        self._kind = delta.kind
        self.content.append(block)
        return {"type": "content_block_start", "index": len(self.content) - 1, "content_block": dict(block)}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": len(self.content) - 1, "delta": delta}


def _input(arguments: str) -> dict[str, Any]:
    """A call's arguments; of a call that was cut off what is there, as clients read it from a stream."""
    try:
        value = from_json(arguments or "{}", allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
