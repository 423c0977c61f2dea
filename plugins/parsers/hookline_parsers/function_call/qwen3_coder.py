"""Calls of Qwen3-Coder and MiMo."""

from __future__ import annotations

from dataclasses import replace

from hookline.formats.description import Block, CallFormat, NamedCall, Parameters, WrittenCalls
from hookline.formats.parsers import DescribedCallParser

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


def _blocks(parameters: Parameters) -> tuple[Block, ...]:
    call = NamedCall(open=("<function=",), name_end=(">",), arguments=parameters, close=("</function>",))
    return (
        Block(open=(_OPEN,), call=call, close=(_CLOSE,)),
        # The model sometimes leaves the outer tag out.
        Block(open=("<function=",), call=replace(call, open=()), close=(_CLOSE,), repeats=False),
    )


class Qwen3CoderParser(DescribedCallParser):
    """``<tool_call>\\n<function=f>\\n<parameter=a>\\n1\\n</parameter>\\n</function>\\n</tool_call>``, repeated.

    The chat template at https://huggingface.co/Qwen/Qwen3-Coder-30B-A3B-Instruct. A line break on each side of a
    value belongs to the frame. Strings are bare, objects and arrays JSON; the template prints other values as Python
    does, so ``True`` and ``None`` are understood.
    """

    form = CallFormat(
        blocks=_blocks(Parameters(open="<parameter=", key_ends={">": "schema"}, close="</parameter>", lines=True)),
        written=WrittenCalls(
            call_open=_OPEN + "\n<function={name}>\n",
            arguments="parameters",
            python_words=True,
            text_open="<parameter={key}>\n",
            value_open="<parameter={key}>\n",
            value_close="\n</parameter>\n",
            call_close="</function>\n" + _CLOSE,
            separator="\n",
        ),
    )


class MimoParser(DescribedCallParser):
    """The same with values between their tags, line breaks and all.

    The chat template at https://huggingface.co/XiaomiMiMo/MiMo-V2-Flash.
    """

    form = CallFormat(
        blocks=_blocks(Parameters(open="<parameter=", key_ends={">": "schema"}, close="</parameter>")),
        written=WrittenCalls(
            call_open=_OPEN + "\n<function={name}>\n",
            arguments="parameters",
            text_open="<parameter={key}>",
            value_open="<parameter={key}>",
            value_close="</parameter>\n",
            call_close="</function>\n" + _CLOSE,
            separator="\n",
        ),
    )
