"""Calls of GLM-4.5 to GLM-5."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, NamedCall, Parameters, WrittenCalls
from hookline.formats.parsers import DescribedCallParser

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_BLOCKS = (
    Block(
        open=(_OPEN,),
        call=NamedCall(
            arguments=Parameters(
                open="<arg_key>", key_ends={"</arg_key>": "schema"}, value_open="<arg_value>", close="</arg_value>"
            ),
        ),
        close=(_CLOSE,),
        repeats=False,
    ),
)


class Glm45Parser(DescribedCallParser):
    """``<tool_call>f\\n<arg_key>a</arg_key>\\n<arg_value>1</arg_value>\\n</tool_call>``, repeated.

    The chat template at https://huggingface.co/zai-org/GLM-4.5 and /zai-org/GLM-4.6: strings are bare, all other
    values JSON.
    """

    form = CallFormat(
        blocks=_BLOCKS,
        written=WrittenCalls(
            call_open=_OPEN + "{name}\n",
            arguments="parameters",
            text_open="<arg_key>{key}</arg_key>\n<arg_value>",
            value_open="<arg_key>{key}</arg_key>\n<arg_value>",
            value_close="</arg_value>\n",
            call_close=_CLOSE,
            separator="\n",
        ),
    )


class Glm47Parser(DescribedCallParser):
    """The same without line breaks: the chat template at https://huggingface.co/zai-org/GLM-4.7."""

    form = CallFormat(
        blocks=_BLOCKS,
        written=WrittenCalls(
            call_open=_OPEN + "{name}",
            arguments="parameters",
            text_open="<arg_key>{key}</arg_key><arg_value>",
            value_open="<arg_key>{key}</arg_key><arg_value>",
            value_close="</arg_value>",
            call_close=_CLOSE,
        ),
    )
