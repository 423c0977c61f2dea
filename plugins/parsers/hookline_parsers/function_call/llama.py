"""Calls of Llama 3.1 to 3.3 and of Llama 4."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, JsonCall, NamedCall, PythonArguments, WrittenCalls
from hookline.formats.parsers import DescribedCallParser


class Llama3Parser(DescribedCallParser):
    """``{"name": "f", "parameters": {...}}`` in place of an answer, several parted by ``;``; behind
    ``<|python_tag|>`` also in the midst of text.

    The chat template at https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct, and
    https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/ ("JSON based tool calling"). An answer that
    begins with ``{`` and is no call is content.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=("<|python_tag|>",),
                at_start=("{",),
                call=JsonCall(arguments_keys=("parameters", "arguments")),
                fillers=(";",),
            ),
        ),
        written=WrittenCalls(
            call_open='{"name": "{name}", "parameters": ', call_close="}", separator="; ", trigger=None
        ),
    )


class Llama4Parser(DescribedCallParser):
    """``[f(a=1, b="x"), g()]`` in place of an answer; between ``<|python_start|>`` and ``<|python_end|>`` also in the
    midst of text.

    https://www.llama.com/docs/model-cards-and-prompt-formats/llama4/ ("Zero shot function calling"), and the chat
    template at https://huggingface.co/meta-llama/Llama-4-Scout-17B-16E-Instruct. Arguments are literals; a call with
    unnamed arguments is content.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=("<|python_start|>",),
                at_start=("[",),
                call=NamedCall(arguments=PythonArguments(), name_end=("(",)),
                fillers=("[", ","),
                close=("]", "<|python_end|>"),
            ),
        ),
        written=WrittenCalls(
            call_open="{name}(", call_close=")", open="[", close="]", separator=", ", arguments="python", trigger=None
        ),
    )
