"""ThinkParser: reasoning between tags."""

from __future__ import annotations

from hookline.interfaces.parsers import ReasoningContext, ReasoningDelta, ReasoningParser
from hookline_parsers.markers import Markers

_SPACE = " \t\n\r"


class ThinkParser(ReasoningParser):
    """Splits ``<think>reasoning</think>content``.

    The reasoning has begun before the first token when the chat template ends in an open tag. There may be
    several blocks. White space, the same for whole answers and streams:

    - around each block of reasoning it is dropped, and blocks are joined by one line break;
    - behind a closing tag it is dropped, and before an opening tag too unless content came before it;
    - everything else is kept.

    Output that ends inside a block is reasoning. A closing tag outside of a block is content.
    """

    open_tag = "<think>"
    close_tag = "</think>"

    def __init__(self, context: ReasoningContext) -> None:
        super().__init__(context)
        self._markers = Markers(self.open_tag, self.close_tag)
        self._is_reasoning = context.prompt_tail.rstrip(_SPACE).endswith(self.open_tag)
        #: Text that may be the start of a tag.
        self._held = ""
        #: White space that is given only if text of the same kind follows.
        self._space = ""
        #: Nothing of the current stretch was given yet, and its leading white space is dropped.
        self._is_fresh = self._is_reasoning
        self._has_reasoning = False
        self._has_content = False
        self._reasoning: list[str] = []
        self._content: list[str] = []

    def feed(self, text: str) -> ReasoningDelta:
        rest = self._held + text
        while True:
            before, marker, rest = self._markers.split(rest)
            self._put(before)
            if marker is None:
                break
            self._pass(marker)
        self._held = rest
        return self._take()

    def finish(self) -> ReasoningDelta:
        self._put(self._held)
        if not self._is_reasoning:
            self._content.append(self._space)
        self._held = self._space = ""
        return self._take()

    def _pass(self, tag: str) -> None:
        opens = tag == self.open_tag
        if opens and self._is_reasoning:
            # The model repeats the tag that the template wrote.
            return
        if not opens and not self._is_reasoning:
            self._put(tag)
            return
        self._is_reasoning = opens
        self._is_fresh = True
        self._space = ""

    def _put(self, text: str) -> None:
        if self._is_fresh:
            text = text.lstrip(_SPACE)
        if not text:
            return
        if self._is_reasoning:
            self._put_reasoning(text)
        else:
            self._put_content(text)
        self._is_fresh = False

    def _put_reasoning(self, text: str) -> None:
        body = text.rstrip(_SPACE)
        if body:
            separator = "\n" if self._is_fresh and self._has_reasoning else ""
            self._reasoning.append(separator + self._space + body)
            self._has_reasoning = True
            self._space = ""
        self._space += text[len(body) :]

    def _put_content(self, text: str) -> None:
        self._space += text
        # White space before any content is given only once it is clear that no block follows it.
        if self._has_content or text.lstrip(_SPACE):
            self._content.append(self._space)
            self._has_content = True
            self._space = ""

    def _take(self) -> ReasoningDelta:
        delta = ReasoningDelta("".join(self._reasoning), "".join(self._content))
        self._reasoning.clear()
        self._content.clear()
        return delta
