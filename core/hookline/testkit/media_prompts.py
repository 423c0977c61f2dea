"""Prompts with media for tests of models: items as a processor makes them, and their places.

Shape letters: N rows of an item, E elements of a row, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hookline.batch.forward_batch import EncoderRows
from hookline.interfaces.multimodal import EncoderInput, EncoderItem, ExpandedPrompt, ProcessedItem
from hookline.layers.model import Model
from hookline.testkit.model_harness import ModelHarness


@dataclass(frozen=True, slots=True)
class MediaPrompt:
    """A prompt and its items; ``expanded`` has a list of spans for each of them."""

    expanded: ExpandedPrompt
    #: (kind, item).
    items: Sequence[tuple[str, ProcessedItem | EncoderItem]]

    @property
    def input_ids(self) -> list[int]:
        """[T]."""
        return self.expanded.input_ids


def encoder_inputs(prompt: MediaPrompt, device: torch.device) -> list[EncoderInput]:
    """The items on the device."""
    return [
        EncoderInput(
            kind=kind,
            tensors={name: torch.from_numpy(array.copy()).to(device) for name, array in item.tensors.items()},
            grid=item.grid,
            num_rows=item.num_rows,
        )
        for kind, item in prompt.items
    ]


@torch.inference_mode()
def encode(model: Model, prompt: MediaPrompt) -> list[torch.Tensor]:
    """[N, E] of each item, encoded together."""
    return model.encode(encoder_inputs(prompt, model.ctx.device))


def prompt_logits(
    harness: ModelHarness, prompt: MediaPrompt, cuts: Sequence[int] = (), name: str = "r"
) -> torch.Tensor:
    """[T, V] logits of all tokens, computed in passes that end at ``cuts`` and at the end."""
    device = harness.model.ctx.device
    rows = encode(harness.model, prompt)
    ids = prompt.input_ids
    planes = prompt.expanded.positions
    places, sources = _places(prompt)
    pieces = []
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        inside = [index for index, place in enumerate(places) if start <= place < end]
        placed = None
        if inside:
            placed = EncoderRows(
                places=torch.tensor([places[index] - start for index in inside], device=device),
                rows=torch.stack([rows[sources[index][0]][sources[index][1]] for index in inside]),
            )
        positions = None if planes is None else torch.from_numpy(planes[:, start:end].copy()).to(device)
        logits = harness.step({"r": ids[start:end]}, all_logits=True, positions=positions, encoder_rows=placed)
        pieces.append(logits["r"])
    return torch.cat(pieces)


def _places(prompt: MediaPrompt) -> tuple[list[int], list[tuple[int, int]]]:
    """Places of placeholders, ascending, and the (item, row) of each."""
    found = []
    for index, spans in enumerate(prompt.expanded.spans):
        row = 0
        for start, length in spans:
            found += [(start + k, (index, row + k)) for k in range(length)]
            row += length
    found.sort()
    return [place for place, _ in found], [source for _, source in found]
