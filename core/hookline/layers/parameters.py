"""Parameters: a model's tensors, and how checkpoints name and lay out the pieces of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from torch import Tensor


class Split(Enum):
    """How ranks share a parameter, once there are several."""

    #: Every rank has it whole.
    REPLICATED = "replicated"
    #: Output features are divided over ranks.
    COLUMN = "column"
    #: Input features are divided over ranks.
    ROW = "row"


class ExpertLayout(Enum):
    """The two layouts of fused expert tensors."""

    #: gate_up [E, H, 2I] and down [E, I, H], as published checkpoints have them.
    PUBLISHED = "published"
    #: gate_up [E, 2I, H] and down [E, H, I], as transformers 5 saves them and as layers hold them.
    TRANSFORMERS = "transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of a fused dimension with a name of its own: q_proj, gate_proj."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One checkpoint tensor and the place in the parameter that it fills."""

    #: Name in the checkpoint, after ``Model.map_weight``.
    name: str
    #: Shape in the checkpoint.
    shape: tuple[int, ...]
    #: Leading index of a stacked parameter (the expert), if it has one.
    expert: int | None = None
    #: Stretch along the first dimension that is left after ``expert``; ``None``: all of it.
    start: int | None = None
    size: int | None = None
    #: The checkpoint has the last two dimensions swapped.
    transposed: bool = False

    def place(self, data: Tensor) -> Tensor:
        """The view of the parameter's tensor that this piece fills, in the checkpoint's orientation."""
        view = data if self.expert is None else data[self.expert]
        if self.start is not None and self.size is not None:
            view = view.narrow(0, self.start, self.size)
        return view.transpose(-1, -2) if self.transposed else view


@dataclass(slots=True, kw_only=True, eq=False)
class Parameter:
    """One tensor of a model. Its address never changes: weights are copied into ``data``."""

    #: Path in the model: "model.layers.0.self_attn.qkv_proj.weight".
    name: str
    data: Tensor
    #: Alternative ways in which checkpoints hold it; the pieces of each fill it exactly.
    forms: tuple[tuple[Piece, ...], ...]
    split: Split = Split.REPLICATED
    #: Named stretches of the split dimension; scales and packed weights are divided alike.
    parts: tuple[Part, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.data.numel() * self.data.element_size()


def whole(name: str, shape: Sequence[int]) -> tuple[tuple[Piece, ...], ...]:
    """The form of a parameter that checkpoints hold under its own name."""
    return ((Piece(name=name, shape=tuple(shape)),),)


def fused(prefix: str, suffix: str, parts: Sequence[Part], trailing: Sequence[int]) -> tuple[tuple[Piece, ...], ...]:
    """The form of a parameter whose ``parts`` lie in separate checkpoint tensors "prefix.part.suffix"."""
    pieces: list[Piece] = []
    start = 0
    for part in parts:
        name = f"{prefix}.{part.name}.{suffix}" if prefix else f"{part.name}.{suffix}"
        pieces.append(Piece(name=name, shape=(part.size, *trailing), start=start, size=part.size))
        start += part.size
    return (tuple(pieces),)
