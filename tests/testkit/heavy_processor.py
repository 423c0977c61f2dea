"""A logits processor whose module imports torch, as it must not."""

from __future__ import annotations

from typing import Any

import torch

from hookline.interfaces.logits import LogitsProcessor


class Heavy(LogitsProcessor):
    def validate(self, params: Any, vocab_size: int) -> Any:
        return params

    def apply(self, logits_V: torch.Tensor, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        logits_V[0] = torch.tensor(0.0)
