"""TokenTable: the token last sampled for each request row, on the device.

The next pass reads its inputs from it, so it can be launched before the host has seen the tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from hookline.worker.step import StepOutput


class TokenTable:
    """[rows] int64 tokens. Rows need no clearing: a row is written before any pass reads it."""

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self._tokens = torch.zeros(num_rows, dtype=torch.int64, device=device)

    def fill(self, input_ids: torch.Tensor, index: torch.Tensor, rows: torch.Tensor) -> None:
        """Set ``input_ids[index]`` [F] to the last tokens of ``rows`` [F], in place."""
        input_ids[index] = self._tokens[rows]

    def read(self, input_ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """``input_ids`` [B], where those below zero are replaced by the last tokens of ``rows`` [B]."""
        return torch.where(input_ids < 0, self._tokens[rows], input_ids)

    def write(self, rows: torch.Tensor, token_ids: torch.Tensor) -> None:
        """Keep ``token_ids`` [B] as the last tokens of ``rows`` [B]."""
        self._tokens[rows] = token_ids

    def store(self, rows: torch.Tensor, output: StepOutput) -> None:
        """Keep the last new token of each of ``rows`` [B]; rows without a new one keep what they have."""
        if output.num_new is None:
            self.write(rows, output.token_ids[:, -1])
            return
        last = (output.num_new - 1).clamp_(min=0)
        newest = output.token_ids.gather(1, last[:, None])[:, 0]
        self._tokens[rows] = torch.where(output.num_new > 0, newest, self._tokens[rows])
