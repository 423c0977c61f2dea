"""Calls of DeepSeek V3 to V3.2."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, JsonArguments, NamedCall, Parameters, WrittenCalls
from hookline.formats.parsers import DescribedCallParser

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END, _SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"


class DeepSeekV3Parser(DescribedCallParser):
    """``<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\\n```json\\n{...}\\n```<｜tool▁call▁end｜>...``

    The chat templates at https://huggingface.co/deepseek-ai/DeepSeek-V3-0324 and /deepseek-ai/DeepSeek-R1-0528.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=(_CALLS,),
                call=NamedCall(
                    open=(_CALL, "function", _SEP),
                    name_end=("```json",),
                    arguments=JsonArguments(),
                    close=("```", _CALL_END),
                ),
                close=(_CALLS_END,),
            ),
        ),
        written=WrittenCalls(
            open=_CALLS,
            call_open=f"{_CALL}function{_SEP}{{name}}\n```json\n",
            call_close=f"\n```{_CALL_END}",
            separator="\n",
            close=_CALLS_END,
        ),
    )


class DeepSeekV31Parser(DescribedCallParser):
    """``<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{...}<｜tool▁call▁end｜>...<｜tool▁calls▁end｜>``.

    The chat template and the section "ToolCall" at https://huggingface.co/deepseek-ai/DeepSeek-V3.1.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=(_CALLS,),
                call=NamedCall(open=(_CALL,), name_end=(_SEP,), arguments=JsonArguments(), close=(_CALL_END,)),
                close=(_CALLS_END,),
            ),
        ),
        written=WrittenCalls(open=_CALLS, call_open=f"{_CALL}{{name}}{_SEP}", call_close=_CALL_END, close=_CALLS_END),
    )


class DeepSeekV32Parser(DescribedCallParser):
    """``<｜DSML｜invoke name="f">`` and ``<｜DSML｜parameter name="a" string="true">`` in ``<｜DSML｜function_calls>``.

    The encoding that https://huggingface.co/deepseek-ai/DeepSeek-V3.2 ships in place of a chat template. The model
    says of each value whether it is a string or JSON; a JSON object may stand in place of all parameters.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=("<｜DSML｜function_calls>",),
                call=NamedCall(
                    open=('<｜DSML｜invoke name="',),
                    name_end=('">',),
                    arguments=Parameters(
                        open='<｜DSML｜parameter name="',
                        key_ends={'" string="true">': "text", '" string="false">': "json"},
                        close="</｜DSML｜parameter>",
                        or_json=True,
                    ),
                    close=("</｜DSML｜invoke>",),
                ),
                close=("</｜DSML｜function_calls>",),
            ),
        ),
        written=WrittenCalls(
            open="<｜DSML｜function_calls>\n",
            call_open='<｜DSML｜invoke name="{name}">\n',
            arguments="parameters",
            text_open='<｜DSML｜parameter name="{key}" string="true">',
            value_open='<｜DSML｜parameter name="{key}" string="false">',
            value_close="</｜DSML｜parameter>\n",
            call_close="</｜DSML｜invoke>",
            separator="\n",
            close="\n</｜DSML｜function_calls>",
        ),
    )
