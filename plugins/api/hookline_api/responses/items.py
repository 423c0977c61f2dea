"""ItemWriter: output items of a response, and the events that tell of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hookline.messages.outputs import TokenLogprob
from hookline_api.chat.reader import Delta, DeltaKind

#: Log-probabilities as the API writes them.
WriteLogprobs = Callable[[Sequence[TokenLogprob]], list[dict[str, Any]]]
_EVENTS = {
    DeltaKind.REASONING: "response.reasoning_text",
    DeltaKind.CONTENT: "response.output_text",
    DeltaKind.CALL: "response.function_call_arguments",
}


class ItemWriter:
    """Puts deltas into items; whole and streamed responses are made by the same one."""

    def __init__(self, write_logprobs: WriteLogprobs) -> None:
        #: The items so far. The last one may be open.
        self.output: list[dict[str, Any]] = []
        self._write_logprobs = write_logprobs
        self._kind: DeltaKind | None = None
        self._call = 0
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def write(self, delta: Delta) -> Iterator[dict[str, Any]]:
        """The events of a delta."""
        if delta.kind is not self._kind or (delta.kind is DeltaKind.CALL and delta.index != self._call):
            yield from self.close()
            yield from self._open(delta)
        is_content = delta.kind is DeltaKind.CONTENT
        logprobs = self._write_logprobs(delta.logprobs) if is_content else []
        self._logprobs += logprobs
        if delta.text:
            self._pieces.append(delta.text)
            more = {"logprobs": logprobs} if is_content else {}
            yield {"type": f"{_EVENTS[delta.kind]}.delta", **self._place(), "delta": delta.text, **more}

    def close(self, *, status: str = "completed") -> Iterator[dict[str, Any]]:
        """End the item that is open, if one is, with a status of "completed" or "incomplete"."""
        if self._kind is None:
            return
        kind, self._kind = self._kind, None
        item, text = self.output[-1], "".join(self._pieces)
        item["status"] = status
        name = f"{_EVENTS[kind]}.done"
        if kind is DeltaKind.CALL:
            item["arguments"] = text
            yield {"type": name, **self._place(is_part=False), "name": item["name"], "arguments": text}
        else:
            part = _part(kind, text, self._logprobs)
            item["content"] = [part]
            more = {"logprobs": self._logprobs} if kind is DeltaKind.CONTENT else {}
            yield {"type": name, **self._place(), "text": text, **more}
            yield {"type": "response.content_part.done", **self._place(), "part": part}
        yield {"type": "response.output_item.done", "output_index": len(self.output) - 1, "item": dict(item)}

    def _open(self, delta: Delta) -> Iterator[dict[str, Any]]:
        self._kind, self._call = delta.kind, delta.index
        self._pieces, self._logprobs = [], []
        self.output.append(_item(delta))
        yield {
            "type": "response.output_item.added",
            "output_index": len(self.output) - 1,
            "item": dict(self.output[-1]),
        }
        if delta.kind is not DeltaKind.CALL:
            yield {"type": "response.content_part.added", **self._place(), "part": _part(delta.kind, "", [])}

    def _place(self, *, is_part: bool | None = None) -> dict[str, Any]:
        """Where the open item stands, and the place in it of its one part."""
        place = {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1}
        has_parts = self._kind is not DeltaKind.CALL if is_part is None else is_part
        return {**place, "content_index": 0} if has_parts else place


def _item(delta: Delta) -> dict[str, Any]:
    key = uuid.uuid4().hex
    if delta.kind is DeltaKind.REASONING:
        return {"id": f"rs_{key}", "type": "reasoning", "summary": [], "content": [], "status": "in_progress"}
    if delta.kind is DeltaKind.CONTENT:
        return {"id": f"msg_{key}", "type": "message", "role": "assistant", "content": [], "status": "in_progress"}
    return {
        "id": f"fc_{key}",
        "type": "function_call",
        "call_id": f"call_{uuid.uuid4().hex[:24]}",
        "name": delta.name,
        "arguments": "",
        "status": "in_progress",
    }


def _part(kind: DeltaKind, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    if kind is DeltaKind.REASONING:
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
