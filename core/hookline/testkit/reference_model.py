"""The reference of models: transformers in float32."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers


class ReferenceModel:
    """A checkpoint as transformers runs it, whatever architecture its config.json lists."""

    def __init__(self, directory: Path, architecture: str) -> None:
        model_class: Any = getattr(transformers, architecture)
        self._model = model_class.from_pretrained(directory, dtype=torch.float32).eval()

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], positions: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [n, V] of a sequence; ``positions`` [P, n] if not 0, 1, 2..."""
        planes = None if positions is None else positions.unsqueeze(1)
        answer = self._model(input_ids=torch.tensor([list(ids)]), position_ids=planes)
        logits: torch.Tensor = answer.logits[0].float()
        return logits

    @torch.inference_mode()
    def hidden(self, ids: Sequence[int]) -> torch.Tensor:
        """Hidden states [n, H] after the final norm."""
        answer = self._model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True)
        hidden: torch.Tensor = answer.hidden_states[-1][0]
        return hidden


@functools.lru_cache(maxsize=4)
def reference_model(directory: Path, architecture: str) -> ReferenceModel:
    """The reference of a checkpoint, loaded once: tests of a suite share it."""
    return ReferenceModel(directory, architecture)
