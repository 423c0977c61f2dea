"""OutputHistory: exact output tokens for the requests whose logits processors read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookline.worker.sampling_rows import RowDetails
    from hookline.worker.step import StepOutput


class OutputHistory:
    """Appends sampled tokens to ``RowDetails.output_ids``, just before they are needed.

    Reading them waits for the device. Only passes with logits processors do so: their sampling starts when
    the host has seen the tokens of the pass before.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[StepOutput, list[tuple[int, RowDetails]]]] = []

    def note(self, output: StepOutput, readers: Sequence[tuple[int, RowDetails]]) -> None:
        """``readers`` are (index into B, details) of the requests whose new tokens will be read."""
        if readers:
            self._unread.append((output, list(readers)))

    def settle(self) -> None:
        """Append what was noted."""
        for output, readers in self._unread:
            token_ids = output.token_ids.tolist()
            num_new = None if output.num_new is None else output.num_new.tolist()
            for b, details in readers:
                details.output_ids.extend(token_ids[b] if num_new is None else token_ids[b][: num_new[b]])
        self._unread.clear()
