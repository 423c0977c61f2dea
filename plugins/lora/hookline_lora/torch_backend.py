"""The "torch" LoRA backend: two small products for each adapter of a pass and layer.

Shape letters: T tokens, R rank (summed over the parts of a fused layer), I input, O output features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from hookline.errors import ModelError
from hookline.interfaces.lora import LoRABackend, LoRAEnv
from hookline.layers.batch_invariant import tiled_linear
from hookline_lora.peft_adapter import ModuleDelta, read_adapter

if TYPE_CHECKING:
    from hookline.batch.forward_batch import AttentionGeometry
    from hookline.layers.linear import Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where the delta of a checkpoint module goes: a stretch of a layer's output."""

    layer: Linear
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerDelta:
    """One adapter's delta on one layer: A [R, I], and B [O, R] with the parts of a fused layer as blocks.

    The scaling is in B.
    """

    a: Tensor
    b: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """The tokens of a pass that use one adapter."""

    slot: int
    #: [n] rows of the pass; ``None``: all of them.
    rows: Tensor | None


class TorchLoRABackend(LoRABackend):
    """Several adapters in one batch, each over its own tokens."""

    def __init__(self, env: LoRAEnv) -> None:
        super().__init__(env)
        self._targets = _targets_by_module(env)
        #: layer -> slot -> delta. Slots without an entry leave the layer alone.
        self._deltas: dict[Linear, dict[int, _LayerDelta]] = {}
        self._linear = tiled_linear if env.deterministic else F.linear

    def load(self, slot: int, name: str, path: Path) -> None:
        if not 1 <= slot <= self.env.max_adapters:
            raise ModelError(f"adapter '{name}' has no slot: {self.env.max_adapters} may be loaded at once")
        by_layer: dict[Linear, list[tuple[_Target, ModuleDelta]]] = {}
        for delta in read_adapter(path):
            target = self._target_of(name, delta)
            by_layer.setdefault(target.layer, []).append((target, delta))
        self.unload(slot)
        for layer, parts in by_layer.items():
            self._deltas.setdefault(layer, {})[slot] = self._merge(layer, parts)

    def unload(self, slot: int) -> None:
        for slots in self._deltas.values():
            slots.pop(slot, None)
        self._deltas = {layer: slots for layer, slots in self._deltas.items() if slots}

    def plan(self, adapters: Sequence[int], geometry: AttentionGeometry) -> tuple[_Segment, ...] | None:
        used = sorted({slot for slot in adapters if slot})
        if not used:
            return None
        if len(used) == 1 and all(adapters):
            return (_Segment(slot=used[0], rows=None),)
        slot_T = torch.tensor(adapters).repeat_interleave(torch.tensor(geometry.extend_lens_cpu))
        return tuple(
            _Segment(slot=slot, rows=(slot_T == slot).nonzero().squeeze(1).to(self.env.device, non_blocking=True))
            for slot in used
        )

    def add_delta(self, layer: Linear, x_TI: Tensor, out_TO: Tensor, plan: tuple[_Segment, ...]) -> Tensor:
        deltas = self._deltas.get(layer)
        if deltas is None:
            return out_TO
        linear = self._linear
        for segment in plan:
            delta = deltas.get(segment.slot)
            if delta is None:
                continue
            rows = segment.rows
            if rows is None:
                out_TO += linear(linear(x_TI, delta.a, None), delta.b, None)
            else:
                part = linear(linear(x_TI.index_select(0, rows), delta.a, None), delta.b, None)
                out_TO.index_add_(0, rows, part)
        return out_TO

    def _target_of(self, name: str, delta: ModuleDelta) -> _Target:
        mapped = self.env.map_weight(f"{delta.module}.weight")
        target = None if mapped is None else self._targets.get(mapped.removesuffix(".weight"))
        if target is None:
            reason = "experts take no adapter" if ".experts." in delta.module else "the model has no such linear layer"
            raise ModelError(
                f"adapter '{name}' targets '{delta.module}': {reason} (layers that take one: "
                f"{', '.join(sorted({module.rpartition('.')[2] for module in self._targets}))})"
            )
        if delta.rank > self.env.max_rank:
            raise ModelError(
                f"adapter '{name}' has rank {delta.rank} at '{delta.module}', above lora.max_lora_rank = "
                f"{self.env.max_rank}"
            )
        shape = (target.size, target.layer.shape.in_features)
        if (delta.b.shape[0], delta.a.shape[1]) != shape:
            raise ModelError(
                f"adapter '{name}' is for another model: '{delta.module}' maps {delta.a.shape[1]} to "
                f"{delta.b.shape[0]} features there, {shape[1]} to {shape[0]} here"
            )
        return target

    def _merge(self, layer: Linear, parts: list[tuple[_Target, ModuleDelta]]) -> _LayerDelta:
        rank = sum(delta.rank for _, delta in parts)
        a_RI = torch.zeros(rank, layer.shape.in_features)
        b_OR = torch.zeros(layer.shape.out_features, rank)
        first = 0
        for target, delta in parts:
            last = first + delta.rank
            a_RI[first:last] = delta.a
            b_OR[target.start : target.start + target.size, first:last] = delta.b.float() * delta.scaling
            first = last
        device, dtype = self.env.device, self.env.dtype
        return _LayerDelta(a=a_RI.to(device, dtype), b=b_OR.to(device, dtype))


def _targets_by_module(env: LoRAEnv) -> dict[str, _Target]:
    """Every module that a checkpoint names, including the parts of fused layers."""
    targets: dict[str, _Target] = {}
    for layer in env.layers.values():
        start = 0
        for part in layer.shape.parts:
            prefix = f"{layer.shape.parent}." if layer.shape.parent else ""
            targets[f"{prefix}{part.name}"] = _Target(layer=layer, start=start, size=part.size)
            start += part.size
    return targets
