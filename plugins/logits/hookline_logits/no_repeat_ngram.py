"""no_repeat_ngram: no sequence of so many tokens occurs twice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookline.interfaces.logits import LogitsProcessor
from hookline_logits.parameters import as_mapping, integer, token_ids

if TYPE_CHECKING:
    import torch

_NAME = "no_repeat_ngram"
_DEFAULT_WINDOW = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramParams:
    """Checked parameters."""

    size: int
    #: How far back earlier occurrences count, in tokens.
    window: int
    #: Tokens that are never forbidden (line breaks, table rules).
    allowed: frozenset[int]


class NoRepeatNgram(LogitsProcessor):
    """``{"size": n, "window": 4096, "allowed_token_ids": []}``: over prompt and output, as transformers does."""

    def validate(self, params: Any, vocab_size: int) -> NgramParams:
        values = as_mapping(_NAME, params, ["size"], ["window", "allowed_token_ids"])
        allowed = token_ids(
            _NAME, "allowed_token_ids", values.get("allowed_token_ids", ()), vocab_size, may_be_empty=True
        )
        return NgramParams(
            size=integer(_NAME, "size", values["size"], 1),
            window=integer(_NAME, "window", values.get("window", _DEFAULT_WINDOW), 1),
            allowed=frozenset(allowed),
        )

    def apply(self, logits_V: torch.Tensor, params: NgramParams, prompt_ids: list[int], output_ids: list[int]) -> None:
        text = (prompt_ids + output_ids)[-params.window :]
        beginning = text[len(text) - params.size + 1 :] if params.size > 1 else []
        if len(beginning) < params.size - 1:
            return
        forbidden = {
            text[i + params.size - 1]
            for i in range(len(text) - params.size + 1)
            if text[i : i + params.size - 1] == beginning
        } - params.allowed
        # Placeholder ids of media in the prompt lie above the vocabulary.
        ids = [token for token in forbidden if token < logits_V.shape[0]]
        if ids:
            logits_V[ids] = -math.inf
