"""KVSpec: what a layer keeps of each token, and the groups of layers that keep the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "uint8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class KVPlane:
    """One array of a layer: ``shape`` elements of ``dtype`` for each slot."""

    name: str
    shape: tuple[int, ...]
    #: Name of a torch dtype, without "torch.".
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPE_BYTES:
            raise ValueError(f"unknown KV dtype '{self.dtype}' (known: {', '.join(_DTYPE_BYTES)})")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"plane '{self.name}' needs dimensions of at least 1, not {self.shape}")

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one slot."""
        size = _DTYPE_BYTES[self.dtype]
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class KVSpec:
    """What one attention layer keeps of each token: K and V of every head of this rank."""

    layer_id: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    #: Name of a torch dtype, without "torch.".
    dtype: str

    @property
    def planes(self) -> tuple[KVPlane, ...]:
        """The arrays of the layer, in the order in which a pool gives them."""
        return (
            KVPlane(name="k", shape=(self.num_kv_heads, self.head_dim), dtype=self.dtype),
            KVPlane(name="v", shape=(self.num_kv_heads, self.v_head_dim), dtype=self.dtype),
        )

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes in this layer."""
        return sum(plane.bytes_per_token for plane in self.planes)


@dataclass(frozen=True, slots=True, kw_only=True)
class KVGroup:
    """Layers with equal planes: they share one slot number per token."""

    planes: tuple[KVPlane, ...]
    layer_ids: tuple[int, ...]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes in all layers of the group."""
        return len(self.layer_ids) * sum(plane.bytes_per_token for plane in self.planes)


def group_specs(specs: Iterable[KVSpec]) -> tuple[KVGroup, ...]:
    """Groups of equal planes, in the order of their first layer. ``ValueError`` if a layer occurs twice."""
    layers: dict[tuple[KVPlane, ...], list[int]] = {}
    seen: set[int] = set()
    for spec in specs:
        if spec.layer_id in seen:
            raise ValueError(f"layer {spec.layer_id} has two KV specs; each layer has one")
        seen.add(spec.layer_id)
        layers.setdefault(spec.planes, []).append(spec.layer_id)
    return tuple(KVGroup(planes=planes, layer_ids=tuple(ids)) for planes, ids in layers.items())
