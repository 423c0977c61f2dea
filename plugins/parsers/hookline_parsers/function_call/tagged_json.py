"""TaggedJsonParser: tool calls as JSON objects between two tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from hookline.interfaces.parsers import FunctionCallDelta, FunctionCallParser, ToolCallDelta
from hookline_parsers.function_call.call_body import CallBody
from hookline_parsers.markers import Markers

_SPACE = " \t\n\r"


class TaggedJsonParser(FunctionCallParser):
    """Finds ``<open>{"name", "arguments"}<close>`` any number of times in text. A format is a subclass.

    - A call to a function that the request does not list is a call like others: whether it exists is for the
      caller to say, who can answer the model; dropping it would lose what the model wrote.
    - What stands behind an opening tag and is no call (see ``CallBody``) is content, tag included.
    - A call that was told before its arguments broke off is marked incomplete; text behind the break is content.
    - White space around calls is dropped, except that what stood before a call comes back if content follows.
    - The closing tag may be missing, or cut off by the end of the output.
    """

    open_tag: ClassVar[str]
    close_tag: ClassVar[str]
    arguments_keys: ClassVar[Sequence[str]] = ("arguments",)
    #: See ``CallBody``.
    max_held: ClassVar[int] = 1024

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(tools)
        self._opening = Markers(self.open_tag)
        #: Where in the text the parser is: in content, in a call, or between a call and its closing tag.
        self._place: Literal["content", "body", "behind"] = "content"
        #: Text taken but not understood yet.
        self._pending = ""
        #: White space that is content only if more content follows.
        self._space = ""
        self._has_content = False
        #: Whether nothing but white space came since the last call.
        self._is_after_call = False
        self._body = self._new_body()
        self._num_calls = 0
        self._is_told = False
        self._out_content: list[str] = []
        self._out_calls: list[ToolCallDelta] = []
        self._out_incomplete = False

    def feed(self, text: str) -> FunctionCallDelta:
        self._pending += text
        while self._pending and self._advance():
            pass
        return self._take()

    def finish(self) -> FunctionCallDelta:
        # Text behind a tag that is no call is read again as content, which may hold another tag.
        while self._place == "body" and self._body.status == "open":
            self._give_up_body()
            while self._pending and self._advance():
                pass
        if self._place == "body":
            self._out_incomplete |= not self._body.is_complete
        elif self._place == "content":
            self._put(self._pending)
            if not self._is_after_call:
                self._out_content.append(self._space)
        self._pending = self._space = ""
        return self._take()

    def _advance(self) -> bool:
        """Read on in ``_pending``; false when more text is needed."""
        if self._place == "content":
            return self._read_content()
        if self._place == "body":
            return self._read_body()
        return self._read_behind()

    def _read_content(self) -> bool:
        before, tag, self._pending = self._opening.split(self._pending)
        self._put(before)
        if tag is None:
            return False
        self._place = "body"
        self._body = self._new_body()
        self._is_told = False
        return True

    def _read_body(self) -> bool:
        body = self._body
        read, arguments = body.feed(self._pending, 0)
        self._pending = self._pending[read:]
        if body.status == "failed" and not body.is_told:
            self._give_up_body()
            return True
        if body.is_told and not self._is_told:
            self._is_told = True
            self._out_calls.append(ToolCallDelta(self._num_calls, body.name, arguments))
            self._num_calls += 1
            self._is_after_call = True
            if not self._has_content:
                self._space = ""
        elif arguments:
            self._out_calls.append(ToolCallDelta(self._num_calls - 1, None, arguments))
        if body.status == "closed":
            self._place = "behind"
        elif body.status == "failed":
            self._out_incomplete = True
            self._place = "content"
        return True

    def _give_up_body(self) -> None:
        """The tag was content; what stood behind it is read again."""
        self._put(self.open_tag)
        self._pending = self._body.raw + self._pending
        self._place = "content"

    def _read_behind(self) -> bool:
        text = self._pending.lstrip(_SPACE)
        if text.startswith(self.close_tag):
            text = text[len(self.close_tag) :]
        elif self.close_tag.startswith(text):
            return False
        self._pending = text
        self._place = "content"
        return True

    def _put(self, text: str) -> None:
        if self._is_after_call:
            text = text.lstrip(_SPACE)
        if not text:
            return
        self._is_after_call = False
        body = text.rstrip(_SPACE)
        if body:
            self._out_content.append(self._space + body)
            self._space = ""
            self._has_content = True
        self._space += text[len(body) :]

    def _new_body(self) -> CallBody:
        return CallBody(arguments_keys=self.arguments_keys, max_held=self.max_held)

    def _take(self) -> FunctionCallDelta:
        delta = FunctionCallDelta("".join(self._out_content), tuple(self._out_calls), self._out_incomplete)
        self._out_content.clear()
        self._out_calls.clear()
        self._out_incomplete = False
        return delta
