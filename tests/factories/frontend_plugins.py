"""Small plugins' implementations that frontend tests put into plans."""

from __future__ import annotations

from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.logits import LogitsProcessor
from hookline.interfaces.parsers import (
    FunctionCallDelta,
    FunctionCallParser,
    ReasoningDelta,
    ReasoningParser,
    ToolCallDelta,
)


class BanProcessor(LogitsProcessor):
    """A logits processor's frontend half: checks {"ids": [...]}. Its other half does nothing."""

    def validate(self, params: Any, vocab_size: int) -> Any:
        ids = params.get("ids") if isinstance(params, dict) else None
        if not isinstance(ids, list) or not all(isinstance(item, int) and 0 <= item < vocab_size for item in ids):
            raise RequestError(f"ban needs ids from 0 to {vocab_size - 1}, not {params!r}", param="logits_processors")
        return ids

    def apply(self, logits_V: Any, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        pass


class PipeReasoningParser(ReasoningParser):
    """Text up to the first "|" is reasoning; a prompt that ends in "!" has none. Holds one character back."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._inside = not context.prompt_tail.endswith("!") and context.template_kwargs.get("think", True)
        self._held = ""

    def feed(self, text: str) -> ReasoningDelta:
        text, self._held = (self._held + text)[:-1], (self._held + text)[-1:]
        return self._split(text)

    def finish(self) -> ReasoningDelta:
        return self._split(self._held)

    def _split(self, text: str) -> ReasoningDelta:
        if not self._inside:
            return ReasoningDelta(content=text)
        before, bar, after = text.partition("|")
        self._inside = not bar
        return ReasoningDelta(reasoning=before, content=after)


class AtCallParser(FunctionCallParser):
    """ "@name;" is a call of that name, if it is one of the tools."""

    def __init__(self, tools: Any, **options: Any) -> None:
        super().__init__(tools, **options)
        self._text = ""
        self._count = 0

    def feed(self, text: str) -> FunctionCallDelta:
        self._text += text
        content = ""
        calls: list[ToolCallDelta] = []
        while "@" in self._text:
            before, _, rest = self._text.partition("@")
            content += before
            self._text = "@" + rest
            name, end, after = rest.partition(";")
            if not end:
                return FunctionCallDelta(content=content, calls=calls)
            calls.append(ToolCallDelta(index=self._count, name=name, arguments="{}"))
            self._count += 1
            self._text = after
        content, self._text = content + self._text, ""
        return FunctionCallDelta(content=content, calls=calls)

    def finish(self) -> FunctionCallDelta:
        rest, self._text = self._text, ""
        return FunctionCallDelta(content=rest, incomplete=bool(rest))
