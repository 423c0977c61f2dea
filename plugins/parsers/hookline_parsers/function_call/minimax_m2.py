"""Calls of MiniMax-M2."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, NamedCall, Parameters, WrittenCalls
from hookline.formats.parsers import DescribedCallParser


class MinimaxM2Parser(DescribedCallParser):
    """``<invoke name="f">`` with ``<parameter name="a">1</parameter>``, in ``<minimax:tool_call>``.

    https://huggingface.co/MiniMaxAI/MiniMax-M2/blob/main/docs/tool_calling_guide.md and the chat template there:
    several calls share the outer tag; strings are bare, all other values JSON.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=("<minimax:tool_call>",),
                call=NamedCall(
                    open=('<invoke name="',),
                    name_end=('">',),
                    arguments=Parameters(open='<parameter name="', key_ends={'">': "schema"}, close="</parameter>"),
                    close=("</invoke>",),
                ),
                close=("</minimax:tool_call>",),
            ),
        ),
        written=WrittenCalls(
            open="<minimax:tool_call>\n",
            call_open='<invoke name="{name}">\n',
            arguments="parameters",
            text_open='<parameter name="{key}">',
            value_open='<parameter name="{key}">',
            value_close="</parameter>\n",
            call_close="</invoke>\n",
            close="</minimax:tool_call>",
        ),
    )
