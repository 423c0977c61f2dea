"""Broken parsers. Each class of tests names the test that must fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from hookline.interfaces.parsers import (
    FunctionCallDelta,
    FunctionCallParser,
    FunctionCallParserSpec,
    ReasoningContext,
    ReasoningDelta,
    ReasoningParser,
    ReasoningParserSpec,
    ToolCallDelta,
)
from hookline.testkit.parser_answers import CallCase, ReasoningCase
from hookline.testkit.parsers import FunctionCallParserSuite, ReasoningParserSuite

OPEN, CLOSE = "<call>", "</call>"


def spec(target: str, *, markers: tuple[str, ...] = (OPEN,)) -> FunctionCallParserSpec:
    return FunctionCallParserSpec(
        name="broken", target=f"{__name__}:{target}", summary="broken on purpose", template_markers=markers
    )


def written(name: str, arguments: Mapping[str, Any]) -> str:
    return OPEN + json.dumps({"name": name, "arguments": arguments}) + CLOSE


class CallSuite(FunctionCallParserSuite):
    """The format that the parsers below get wrong."""

    markers = (OPEN, CLOSE)
    cases = (
        CallCase(text="plain", content="plain"),
        CallCase(text=written("f", {"a": "b"}), calls=[("f", {"a": "b"})]),
        CallCase(text=written("now", {}), calls=[("now", {})]),
        CallCase(text=written("f", {"a": 1}) + written("now", {}), calls=[("f", {"a": 1}), ("now", {})]),
        CallCase(text="so " + written("f", {}) + " then", content="so  then", calls=[("f", {})]),
    )

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return written(name, arguments)


class Buffer(FunctionCallParser):
    """Right but for what the subclasses break: a call counts once it is whole."""

    def __init__(self, tools: Sequence[Mapping[str, Any]], **options: Any) -> None:
        super().__init__(tools, **options)
        self.text = ""
        self.num_calls = 0

    def feed(self, text: str) -> FunctionCallDelta:
        self.text += text
        return self.answer(self.events(is_end=False))

    def finish(self) -> FunctionCallDelta:
        return self.answer(self.events(is_end=True))

    def answer(self, events: Iterator[str | tuple[str, str]]) -> FunctionCallDelta:
        content, calls = "", []
        for event in events:
            if isinstance(event, str):
                content += event
            else:
                calls.append(ToolCallDelta(self.num_calls, *event))
                self.num_calls += 1
        return FunctionCallDelta(content, calls)

    def events(self, *, is_end: bool) -> Iterator[str | tuple[str, str]]:
        """Content, and (name, arguments) of calls, as far as they are certain."""
        while True:
            start = self.text.find(OPEN)
            if start < 0:
                held = 0 if is_end else self.held()
                yield self.text[: len(self.text) - held]
                self.text = self.text[len(self.text) - held :]
                return
            yield self.text[:start]
            self.text = self.text[start:]
            found = self.call()
            if found is not None:
                yield found
            elif is_end:
                yield OPEN
                self.text = self.text[len(OPEN) :]
            else:
                return

    def held(self) -> int:
        return max((n for n in range(1, len(OPEN)) if self.text.endswith(OPEN[:n])), default=0)

    def call(self) -> tuple[str, str] | None:
        """The call that the text begins with, if it is whole; it is then taken off."""
        for match in re.finditer(CLOSE, self.text):
            body = self.text[len(OPEN) : match.start()]
            found = self.read(body)
            if found is not None:
                self.text = self.text[match.end() :]
                return found
        return None

    def read(self, body: str) -> tuple[str, str] | None:
        try:
            call = json.loads(body)
            name, arguments = call["name"], call["arguments"]
            if not isinstance(name, str) or not name or not isinstance(arguments, dict):
                return None
            name.encode()
            return name, json.dumps(arguments, allow_nan=False)
        except (ValueError, LookupError, TypeError, RecursionError):
            return None


class Eager(Buffer):
    """Looks for the marker in what is there, and holds nothing back."""

    def held(self) -> int:
        return 0


class TestEager(CallSuite):
    spec = spec("Eager")
    caught_by = "test_cases_are_found_however_they_are_cut"


class OneAtATime(Buffer):
    """Answers one call a piece; a second one in the same piece waits for a piece that may never come."""

    def answer(self, events: Iterator[str | tuple[str, str]]) -> FunctionCallDelta:
        taken = []
        for event in events:
            taken.append(event)
            if not isinstance(event, str):
                break
        return super().answer(iter(taken))


class TestOneAtATime(CallSuite):
    spec = spec("OneAtATime")
    caught_by = "test_every_call_that_the_format_can_write_arrives"


class Renaming(Buffer):
    """Says the name again with every piece of the arguments."""

    def answer(self, events: Iterator[str | tuple[str, str]]) -> FunctionCallDelta:
        delta = super().answer(events)
        calls = [
            ToolCallDelta(call.index, call.name, part) for call in delta.calls for part in ("{", call.arguments[1:])
        ]
        return FunctionCallDelta(delta.content, calls)


class TestRenaming(CallSuite):
    spec = spec("Renaming")
    caught_by = "test_cases_are_found_however_they_are_cut"


class Twice(Buffer):
    """A call without arguments gets its empty object from the body and once more from the end of the call."""

    def read(self, body: str) -> tuple[str, str] | None:
        found = super().read(body)
        return (found[0], "{}{}") if found and found[1] == "{}" else found


class TestTwice(CallSuite):
    spec = spec("Twice")
    caught_by = "test_cases_are_found_however_they_are_cut"


class Greedy(Buffer):
    """Takes the first closing tag for the end of the call, even in a string."""

    def call(self) -> tuple[str, str] | None:
        body, tag, rest = self.text[len(OPEN) :].partition(CLOSE)
        if not tag:
            return None
        self.text = rest
        return self.read(body) or ("unknown", "{}")


class TestGreedy(CallSuite):
    spec = spec("Greedy")
    caught_by = "test_markers_in_strings_are_text"


class Trusting(Buffer):
    """Takes what stands between the tags for JSON."""

    def read(self, body: str) -> tuple[str, str] | None:
        call = json.loads(body)
        return call["name"], json.dumps(call["arguments"])


class TestTrusting(CallSuite):
    spec = spec("Trusting")
    caught_by = "test_any_text_is_parsed_the_same_and_never_raises"


class Pythonic(Buffer):
    """Writes arguments as Python does, NaN and all."""

    def read(self, body: str) -> tuple[str, str] | None:
        found = super().read(body.replace("NaN", "null"))
        return (found[0], json.dumps(json.loads(body)["arguments"])) if found else None


class TestPythonic(CallSuite):
    spec = spec("Pythonic")
    caught_by = "test_arguments_are_json_whatever_the_model_writes"


class Recursive(Buffer):
    """Forgets how deep a model can nest."""

    def read(self, body: str) -> tuple[str, str] | None:
        try:
            json.loads(body)
        except ValueError:
            return None
        return super().read(body)


class TestRecursive(CallSuite):
    spec = spec("Recursive")
    caught_by = "test_deep_nesting_does_not_raise"


class Dropping(Buffer):
    """Forgets at the end what it held back."""

    def finish(self) -> FunctionCallDelta:
        return FunctionCallDelta()


class TestDropping(CallSuite):
    spec = spec("Dropping")
    caught_by = "test_an_output_that_ends_anywhere_loses_nothing"


class Mending(Buffer):
    """Completes a call that the end of the output has cut off, and passes it off as what the model wrote."""

    def finish(self) -> FunctionCallDelta:
        for mend in ("}" + CLOSE, '"}}' + CLOSE):
            if self.text.startswith(OPEN) and self.read(self.text[len(OPEN) :] + mend.removesuffix(CLOSE)):
                self.text += mend
        return super().finish()


class TestMending(CallSuite):
    spec = spec("Mending")
    caught_by = "test_an_output_that_ends_anywhere_loses_nothing"


class Patient(Buffer):
    """Gives nothing before the end."""

    def feed(self, text: str) -> FunctionCallDelta:
        self.text += text
        return FunctionCallDelta()


class TestPatient(CallSuite):
    spec = spec("Patient")
    caught_by = "test_text_is_given_as_soon_as_it_cannot_be_a_marker"


class Sharing(Buffer):
    """Keeps its text where all parsers keep theirs."""

    _texts: ClassVar[list[str]] = []

    def feed(self, text: str) -> FunctionCallDelta:
        self._texts.append(text)
        self.text = "".join(self._texts)
        delta = super().feed("")
        self._texts[:] = [self.text]
        return delta

    def finish(self) -> FunctionCallDelta:
        self._texts.clear()
        return super().finish()


class TestSharing(CallSuite):
    spec = spec("Sharing")
    caught_by = "test_parsers_share_nothing"


class TestMarkersInOneString(CallSuite):
    spec = spec("Buffer", markers="<call>")  # type: ignore[arg-type]
    caught_by = "test_template_markers_are_strings"


def reasoning(target: str) -> ReasoningParserSpec:
    return ReasoningParserSpec(name="broken", target=f"{__name__}:{target}", summary="broken on purpose")


class ThoughtSuite(ReasoningParserSuite):
    """The format that the parsers below get wrong."""

    opens = "<think>"
    closes = "</think>"
    opened_tail = "assistant\n<think>\n"
    cases = (
        ReasoningCase(text="plain", content="plain"),
        ReasoningCase(text="<think>a</think>b", reasoning="a", content="b"),
        ReasoningCase(text="a</think>b", reasoning="a", content="b", prompt_tail="assistant\n<think>\n"),
    )


class Thoughts(ReasoningParser):
    """Right but for what the subclasses break: a tag is dropped, everything else is given."""

    def __init__(self, context: ReasoningContext) -> None:
        super().__init__(context)
        self.is_reasoning = context.prompt_tail.rstrip().endswith("<think>")
        self.text = ""

    def feed(self, text: str) -> ReasoningDelta:
        self.text += text
        return self.take(is_end=False)

    def finish(self) -> ReasoningDelta:
        return self.take(is_end=True)

    def take(self, *, is_end: bool) -> ReasoningDelta:
        given = {True: "", False: ""}
        while tag := re.search("<think>|</think>", self.text):
            given[self.is_reasoning] += self.text[: tag.start()]
            self.text = self.text[tag.end() :]
            self.is_reasoning = tag.group() == "<think>"
        held = 0 if is_end else self.held()
        given[self.is_reasoning] += self.text[: len(self.text) - held]
        self.text = self.text[len(self.text) - held :]
        return ReasoningDelta(given[True], given[False])

    def held(self) -> int:
        tags = ("<think>", "</think>")
        return max((n for tag in tags for n in range(1, len(tag)) if self.text.endswith(tag[:n])), default=0)


class Leaking(Thoughts):
    """Lets the first half of a tag through that comes in two pieces."""

    def held(self) -> int:
        return 0


class TestLeaking(ThoughtSuite):
    spec = reasoning("Leaking")
    caught_by = "test_cases_split_the_same_however_they_are_cut"


class Blind(Thoughts):
    """Does not look at the prompt."""

    def __init__(self, context: ReasoningContext) -> None:
        super().__init__(ReasoningContext(prompt_tail="", template_kwargs={}))


class TestBlind(ThoughtSuite):
    spec = reasoning("Blind")
    caught_by = "test_reasoning_is_opened_by_the_template_or_by_the_model"


class Swallowing(Thoughts):
    """Gives reasoning only when its end has come."""

    def take(self, *, is_end: bool) -> ReasoningDelta:
        if self.is_reasoning and "</think>" not in self.text:
            return ReasoningDelta()
        return super().take(is_end=is_end)


class TestSwallowing(ThoughtSuite):
    spec = reasoning("Swallowing")
    caught_by = "test_an_output_that_ends_anywhere_loses_nothing"


class Holding(Thoughts):
    """Holds everything behind the last "<", which may be no tag at all."""

    def held(self) -> int:
        last = self.text.rfind("<")
        return 0 if last < 0 else len(self.text) - last


class TestHolding(ThoughtSuite):
    spec = reasoning("Holding")
    caught_by = "test_text_is_given_as_soon_as_it_cannot_be_a_marker"


class Trimming(Thoughts):
    """Trims each piece, and so glues words together."""

    def take(self, *, is_end: bool) -> ReasoningDelta:
        delta = super().take(is_end=is_end)
        return ReasoningDelta(delta.reasoning.strip(), delta.content.strip())


class TestTrimming(ThoughtSuite):
    spec = reasoning("Trimming")
    caught_by = "test_plain_text_passes_unchanged"
