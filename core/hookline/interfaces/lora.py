"""LoRA backends: add low-rank deltas of several adapters to one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import torch

    from hookline.batch.forward_batch import AttentionGeometry
    from hookline.layers.linear import Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRABackendSpec(Spec):
    """A LoRA backend. ``target`` is a subclass of ``LoRABackend``, called with a ``LoRAEnv``."""

    kind: ClassVar[str] = "lora_backends"
    target_base: ClassVar[str] = "hookline.interfaces.lora:LoRABackend"
    known_features: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "deterministic": "the same numbers for a request whatever else is in the batch",
        }
    )


def _same(name: str) -> str | None:
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAEnv:
    """Fixed facts, known when the backend is made."""

    device: torch.device
    dtype: torch.dtype
    #: Module path in the model ("model.layers.0.self_attn.qkv_proj") -> the layer with its delta slot.
    layers: dict[str, Linear]
    max_adapters: int
    max_rank: int
    #: ``Model.map_weight``: how adapters, which use checkpoint names, call a module of the model.
    map_weight: Callable[[str], str | None] = _same
    #: Same numbers for the same request whatever else is in the batch.
    deterministic: bool = False
    options: Any = None


class LoRABackend(ABC):
    """Holds adapters and adds their deltas. Slot 0 is the base model: no delta."""

    def __init__(self, env: LoRAEnv) -> None:
        self.env = env

    @abstractmethod
    def load(self, slot: int, name: str, path: Path) -> None:
        """Load a PEFT adapter directory into a slot (from 1).

        Raises ``ModelError`` naming what is wrong: an unknown module, a rank above the limit, or a PEFT
        feature that is not supported (never ignored).
        """

    @abstractmethod
    def unload(self, slot: int) -> None:
        """Free a slot."""

    @abstractmethod
    def plan(self, adapters: Sequence[int], geometry: AttentionGeometry) -> Any:
        """Per-pass state for the slots [B] of the requests; put into ``ForwardBatch.lora``."""

    @abstractmethod
    def add_delta(self, layer: Linear, x_TI: torch.Tensor, out_TO: torch.Tensor, plan: Any) -> torch.Tensor:
        """``out`` plus the adapters' deltas for input ``x``; may write in place."""
