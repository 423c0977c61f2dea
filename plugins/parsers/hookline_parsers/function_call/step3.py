"""Calls of Step3."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, NamedCall, Parameters, WrittenCalls
from hookline.formats.parsers import DescribedCallParser

_CALLS, _CALLS_END = "<｜tool_calls_begin｜>", "<｜tool_calls_end｜>"
_CALL, _CALL_END, _SEP = "<｜tool_call_begin｜>", "<｜tool_call_end｜>", "<｜tool_sep｜>"


class Step3Parser(DescribedCallParser):
    """``<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="f"><steptml:parameter name="a">1</...>...``

    The chat template at https://huggingface.co/stepfun-ai/step3.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=(_CALLS,),
                call=NamedCall(
                    open=(_CALL, "function", _SEP, '<steptml:invoke name="'),
                    name_end=('">',),
                    arguments=Parameters(
                        open='<steptml:parameter name="', key_ends={'">': "schema"}, close="</steptml:parameter>"
                    ),
                    close=("</steptml:invoke>", _CALL_END),
                ),
                close=(_CALLS_END,),
            ),
        ),
        written=WrittenCalls(
            open=_CALLS + "\n",
            call_open=f'{_CALL}function{_SEP}<steptml:invoke name="{{name}}">\n',
            arguments="parameters",
            text_open='<steptml:parameter name="{key}">',
            value_open='<steptml:parameter name="{key}">',
            value_close="</steptml:parameter>\n",
            call_close=f"</steptml:invoke>{_CALL_END}\n",
            close=_CALLS_END,
        ),
    )
