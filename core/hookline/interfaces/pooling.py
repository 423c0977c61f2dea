"""Poolers: one vector from the hidden states of a prompt, fed chunk by chunk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerSpec(Spec):
    """A pooler. ``target`` is a subclass of ``Pooler``, called without arguments for each request."""

    kind: ClassVar[str] = "poolers"
    target_base: ClassVar[str] = "hookline.interfaces.pooling:Pooler"

    #: Whether every prompt token must be computed, so that cached prefixes may not be reused.
    needs_all_tokens: bool = False


class Pooler(ABC):
    """Reduces the hidden states of one request; made anew for each request, fed its chunks in order."""

    @abstractmethod
    def update(self, hidden_TH: torch.Tensor, is_first: bool, is_last: bool) -> None:
        """Take the final-norm hidden states of the next chunk, [T, H] in the model's dtype."""

    @abstractmethod
    def result(self) -> torch.Tensor:
        """The vector [H] in float32, not normalised; called once after the last chunk."""
