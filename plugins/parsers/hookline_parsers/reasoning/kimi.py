"""The reasoning of Kimi-VL."""

from __future__ import annotations

from hookline.formats.description import ReasoningFormat
from hookline.formats.parsers import DescribedReasoningParser


class KimiParser(DescribedReasoningParser):
    """``◁think▷reasoning◁/think▷content``, written by the model.

    The model card at https://huggingface.co/moonshotai/Kimi-VL-A3B-Thinking splits answers there.
    """

    form = ReasoningFormat(open="◁think▷", close="◁/think▷")
