"""thinking_budget: ends the reasoning of a model after so many tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookline.interfaces.logits import LogitsProcessor
from hookline_logits.parameters import as_mapping, integer, token_ids

if TYPE_CHECKING:
    import torch

_NAME = "thinking_budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetParams:
    """Checked parameters."""

    max_tokens: int
    end: tuple[int, ...]
    start: tuple[int, ...]


class ThinkingBudget(LogitsProcessor):
    """``{"max_tokens": n, "end_token_ids": [...], "start_token_ids": [...]}``.

    ``end_token_ids`` is what closes the reasoning, several tokens if its text has several; once the budget is
    spent they are forced one after the other. Reasoning runs from ``start_token_ids`` in prompt or output,
    or, without them, from the beginning of the output.
    """

    def validate(self, params: Any, vocab_size: int) -> BudgetParams:
        values = as_mapping(_NAME, params, ["max_tokens", "end_token_ids"], ["start_token_ids"])
        start = values.get("start_token_ids", ())
        return BudgetParams(
            max_tokens=integer(_NAME, "max_tokens", values["max_tokens"], 0),
            end=token_ids(_NAME, "end_token_ids", values["end_token_ids"], vocab_size),
            start=token_ids(_NAME, "start_token_ids", start, vocab_size, may_be_empty=True),
        )

    def apply(self, logits_V: torch.Tensor, params: BudgetParams, prompt_ids: list[int], output_ids: list[int]) -> None:
        begin = self._begin(params, prompt_ids, output_ids)
        if begin is None:
            return
        thought = output_ids[begin:]
        if len(thought) < params.max_tokens or _find_last(thought, params.end) is not None:
            return
        # The end may be under way: forced before, or begun by the model itself.
        forced = params.end[_num_begun(thought, params.end)]
        kept = logits_V[forced].clone()
        logits_V.fill_(-math.inf)
        logits_V[forced] = kept

    def _begin(self, params: BudgetParams, prompt_ids: list[int], output_ids: list[int]) -> int | None:
        """Index into the output at which the reasoning begins; ``None`` if it has not begun or is over."""
        if not params.start:
            return 0
        found = _find_last(output_ids, params.start)
        if found is not None:
            return found + len(params.start)
        opened = _find_last(prompt_ids, params.start)
        # A reasoning that the prompt opened and closed again is over.
        if opened is None or _find_last(prompt_ids[opened:], params.end) is not None:
            return None
        return 0


def _num_begun(tokens: list[int], end: tuple[int, ...]) -> int:
    """How many tokens of ``end`` stand at the end of ``tokens`` already."""
    for count in range(min(len(end) - 1, len(tokens)), 0, -1):
        if tuple(tokens[-count:]) == end[:count]:
            return count
    return 0


def _find_last(tokens: list[int], wanted: tuple[int, ...]) -> int | None:
    """Where ``wanted`` begins for the last time."""
    for i in range(len(tokens) - len(wanted), -1, -1):
        if tuple(tokens[i : i + len(wanted)]) == wanted:
            return i
    return None
