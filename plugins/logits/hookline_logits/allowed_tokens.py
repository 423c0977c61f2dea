"""allowed_tokens: the output consists of given tokens only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hookline.interfaces.logits import LogitsProcessor
from hookline_logits.parameters import as_mapping, token_ids

if TYPE_CHECKING:
    import torch

_NAME = "allowed_tokens"


class AllowedTokens(LogitsProcessor):
    """``{"token_ids": [...]}``: every other token is forbidden.

    End tokens are not added: list them, or limit ``max_new_tokens`` (1 to choose a label).
    """

    def validate(self, params: Any, vocab_size: int) -> list[int]:
        values = as_mapping(_NAME, params, ["token_ids"])
        return sorted(set(token_ids(_NAME, "token_ids", values["token_ids"], vocab_size)))

    def apply(self, logits_V: torch.Tensor, params: list[int], prompt_ids: list[int], output_ids: list[int]) -> None:
        kept = logits_V[params]
        logits_V.fill_(-math.inf)
        logits_V[params] = kept
