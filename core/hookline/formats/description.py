"""How a model writes reasoning and tool calls, as data.

A format is a value of these classes. ``hookline.formats.parsers`` reads it from text, and
``hookline.formats.wire`` says how calls of given tools are written, to constrain them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: What the text of a parameter means: by the tool's schema, always a string, or always JSON.
ValueRule = Literal["schema", "text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningFormat:
    """``open`` reasoning ``close`` content, any number of times.

    The reasoning has begun before the first token when the prompt ends in ``open`` (white space aside).
    """

    open: str
    close: str
    #: Whether output begins as reasoning even if the prompt does not show it, unless it ends in ``close``.
    starts_open: bool = False
    #: Markers that end reasoning which was not closed; they belong to what follows (a tool call).
    ends_before: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCall:
    """A call as one JSON object: ``{"name": "f", "arguments": {...}}``, members in any order.

    ``null``, a string that holds an object, and no arguments at all are understood too.
    """

    name_key: str = "name"
    #: Keys that hold the arguments; the first is the one that models are taught.
    arguments_keys: Sequence[str] = ("arguments", "parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonArguments:
    """Arguments as one JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Arguments one by one: ``open`` key ``key_end`` [``value_open``] value ``close``.

    Values are bare text, which cannot quote ``close``.
    """

    open: str
    #: What ends a key -> how the value that follows is meant.
    key_ends: Mapping[str, ValueRule]
    close: str
    #: What stands before a value, behind white space.
    value_open: str = ""
    #: Whether one line break behind ``key_end`` and one before ``close`` belong to the frame.
    lines: bool = False
    #: Whether a JSON object may stand in place of all parameters.
    or_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonArguments:
    """Arguments as keywords of a Python call, literals alone: ``a=1, b=[True, None])``, to the bracket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCall:
    """A call whose name stands before its arguments: ``open`` name ``name_end`` arguments ``close``.

    White space between the parts is free. ``Parameters`` may follow a name without a ``name_end``.
    """

    arguments: JsonArguments | Parameters | PythonArguments
    open: Sequence[str] = ()
    name_end: Sequence[str] = ()
    #: Matches all of what stands in place of the name; the group "name" is the name.
    name: str = r"(?P<name>[\w.\-]+)"
    #: What stands behind the arguments; each may be missing.
    close: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """``open`` calls ``close``: where calls stand in text."""

    call: JsonCall | NamedCall
    #: What a block begins with: one of these, anywhere in the text.
    open: Sequence[str] = ()
    #: Strings that begin a block, and are part of it, where they are the first thing in the output.
    at_start: Sequence[str] = ()
    #: What stands behind the calls, in this order; each may be missing.
    close: Sequence[str] = ()
    #: Punctuation between calls.
    fillers: Sequence[str] = ()
    #: Whether several calls may share a block.
    repeats: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCalls:
    """Calls as models are taught to write them, white space included, for constraining output.

    ``open`` call (``separator`` call)* ``close``. A call is ``call_open`` arguments ``call_close``; in
    ``call_open``, ``{name}`` stands for the function's name and ``{index}`` for the number of the call.
    """

    call_open: str
    call_close: str
    open: str = ""
    close: str = ""
    separator: str = ""
    #: Arguments as one JSON object; "parameters": one by one, as the next two say; "python": as keywords.
    arguments: Literal["json", "parameters", "python"] = "json"
    #: Whether booleans and null are spelt as Python does; in ``arguments`` "python" they always are.
    python_words: bool = False
    #: What stands before a value of text, with ``{key}``, and before any other; and behind a value.
    text_open: str = ""
    value_open: str = ""
    value_close: str = ""
    #: What begins calls in the midst of text and nothing else. Empty: the first word of what stands before the
    #: first name. ``None``: that may begin other text too; then only with the name of a function it begins a call.
    trigger: str | None = ""
    #: Whether the model's turn ends behind one call.
    is_single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """How a model writes calls. Of blocks with one opening the first that fits is taken."""

    blocks: Sequence[Block]
    written: WrittenCalls
