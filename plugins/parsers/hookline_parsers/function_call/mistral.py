"""Calls of Mistral's models."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, JsonArguments, JsonCall, NamedCall, WrittenCalls
from hookline.formats.parsers import DescribedCallParser

_OPEN = "[TOOL_CALLS]"
_ARRAY = Block(open=(_OPEN,), call=JsonCall(), fillers=("[", ","), close=("]",))
_COMPACT = Block(
    open=(_OPEN,),
    call=NamedCall(
        # Some of them give the id of the call behind its name.
        name=r"(?P<name>[\w.\-]+)(?:\[CALL_ID\][\w\-]+)?",
        name_end=("[ARGS]",),
        arguments=JsonArguments(),
    ),
    repeats=False,
)


class MistralParser(DescribedCallParser):
    """``[TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...]``, or ``[TOOL_CALLS]f[ARGS]{...}`` for each call.

    The first is what tokenizers up to version 7 write: the chat template at
    https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.3. The second, for some models with ``[CALL_ID]`` and an
    id before ``[ARGS]``, is that of version 11 and later:
    https://huggingface.co/mistralai/Mistral-Small-3.2-24B-Instruct-2506 and
    https://github.com/mistralai/mistral-common.
    """

    form = CallFormat(
        blocks=(_ARRAY, _COMPACT),
        written=WrittenCalls(
            call_open='{"name": "{name}", "arguments": ',
            call_close="}",
            open=f"{_OPEN} [",
            close="]",
            separator=", ",
        ),
    )


class MistralCompactParser(DescribedCallParser):
    """The same, for models that write the second form: only what is asked of a grammar differs."""

    form = CallFormat(
        blocks=MistralParser.form.blocks,
        written=WrittenCalls(call_open=_OPEN + "{name}[ARGS]", call_close=""),
    )
