"""Reasoning between ``<think>`` and ``</think>``.

What differs between the families is who writes the opening tag. Where the chat template does, the prompt's end
shows it, and one description serves them all; where neither need do it, output begins as reasoning.
"""

from __future__ import annotations

from hookline.formats.description import ReasoningFormat
from hookline.formats.parsers import DescribedReasoningParser

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkParser(DescribedReasoningParser):
    """``<think>reasoning</think>content``, written by the model or opened by the chat template.

    The chat templates at https://huggingface.co/Qwen/Qwen3-8B, /zai-org/GLM-4.5, /internlm/Intern-S1 and
    /deepseek-ai/DeepSeek-V3.1 leave the tag to the model, or write an empty or a closed block to switch reasoning
    off; that of V3.1 opens it when ``thinking`` is set.
    """

    form = ReasoningFormat(open=_OPEN, close=_CLOSE)


class OpenThinkParser(DescribedReasoningParser):
    """The same, of models that always reason: what comes before ``</think>`` is reasoning.

    The chat templates at https://huggingface.co/Qwen/Qwen3-235B-A22B-Thinking-2507, /stepfun-ai/step3 and
    /MiniMaxAI/MiniMax-M2 end in ``<think>``. So does the newer one at /deepseek-ai/DeepSeek-R1; with the older one
    the model writes the tag, or leaves it out.
    """

    form = ReasoningFormat(open=_OPEN, close=_CLOSE, starts_open=True)


class KimiK2ThinkParser(DescribedReasoningParser):
    """The same, where calls of functions may end the reasoning without a closing tag.

    The chat template and the tool-call guide at https://huggingface.co/moonshotai/Kimi-K2-Thinking: the model writes
    both tags, and a section of calls may follow reasoning at once.
    """

    form = ReasoningFormat(open=_OPEN, close=_CLOSE, ends_before=("<|tool_calls_section_begin|>",))
