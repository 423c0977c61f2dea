"""Mixture of experts: a router, stacked expert weights, and the method that applies them.

Shape letters: T tokens, H hidden, E experts, I expert width, J = 2I (gate, then up), K experts per token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hookline.layers.linear import Linear
from hookline.layers.ops import FUSED_MOE, TOPK_SOFTMAX, Ops
from hookline.layers.parameters import Parameter, Part, Piece, Split

#: Applies the experts: (x [T, H], weights [T, K], ids [T, K]) -> [T, H].
Experts = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoEShape:
    """What the experts of one layer compute, whatever the format of their weights."""

    #: Path in the model: "model.layers.0.mlp.experts".
    path: str
    num_experts: int
    hidden_size: int
    intermediate_size: int


class MoEMethod(ABC):
    """A weight format for experts; the counterpart of ``LinearMethod``."""

    @abstractmethod
    def parameters(self, shape: MoEShape, dtype: torch.dtype, device: torch.device) -> list[Parameter]:
        """The empty parameters, named under ``shape.path``. Called once, at build time."""

    @abstractmethod
    def bind(self, shape: MoEShape, parameters: list[Parameter], ops: Ops) -> Experts:
        """The experts over filled parameters. Called after every load of weights."""


class UnquantizedMoE(MoEMethod):
    """Weights in the compute dtype: gate_up [E, 2I, H] and down [E, H, I]."""

    def parameters(self, shape: MoEShape, dtype: torch.dtype, device: torch.device) -> list[Parameter]:
        experts, hidden, width = shape.num_experts, shape.hidden_size, shape.intermediate_size
        gate_up = Parameter(
            name=f"{shape.path}.gate_up_proj",
            data=torch.empty(experts, 2 * width, hidden, dtype=dtype, device=device),
            forms=(
                *_stacked_forms(shape.path, "gate_up_proj", (experts, 2 * width, hidden)),
                _separate_form(shape, ("gate_proj", "up_proj"), (width, hidden)),
            ),
            split=Split.COLUMN,
            parts=(Part(name="gate_proj", size=width), Part(name="up_proj", size=width)),
        )
        down = Parameter(
            name=f"{shape.path}.down_proj",
            data=torch.empty(experts, hidden, width, dtype=dtype, device=device),
            forms=(
                *_stacked_forms(shape.path, "down_proj", (experts, hidden, width)),
                _separate_form(shape, ("down_proj",), (hidden, width)),
            ),
            split=Split.ROW,
            parts=(Part(name="down_proj", size=width),),
        )
        return [gate_up, down]

    def bind(self, shape: MoEShape, parameters: list[Parameter], ops: Ops) -> Experts:
        fused_moe = ops.request(FUSED_MOE)
        w13_EJH, w2_EHI = parameters[0].data, parameters[1].data

        def apply(x_TH: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
            return fused_moe(x_TH, w13_EJH, w2_EHI, weights_TK, ids_TK)

        return apply


def _stacked_forms(path: str, name: str, shape: tuple[int, int, int]) -> tuple[tuple[Piece, ...], ...]:
    """All experts in one tensor, in either of the two layouts (see ``ExpertLayout``)."""
    experts, rows, columns = shape
    same = Piece(name=f"{path}.{name}", shape=shape)
    swapped = Piece(name=f"{path}.{name}", shape=(experts, columns, rows), transposed=True)
    return (same,), (swapped,)


def _separate_form(shape: MoEShape, names: tuple[str, ...], piece_shape: tuple[int, int]) -> tuple[Piece, ...]:
    """A tensor for each expert and projection."""
    return tuple(
        Piece(
            name=f"{shape.path}.{expert}.{name}.weight",
            shape=piece_shape,
            expert=expert,
            start=index * piece_shape[0],
            size=piece_shape[0],
        )
        for expert in range(shape.num_experts)
        for index, name in enumerate(names)
    )


class MoE:
    """A sparse MLP: each token visits the ``top_k`` experts that the router prefers."""

    __slots__ = ("_experts", "_parameters", "_route", "method", "renormalize", "router", "shape", "top_k")

    def __init__(
        self,
        shape: MoEShape,
        method: MoEMethod,
        parameters: list[Parameter],
        router: Linear,
        top_k: int,
        renormalize: bool,
        ops: Ops,
    ) -> None:
        self.shape = shape
        self.method = method
        self.router = router
        self.renormalize = renormalize
        self._parameters = parameters
        self.top_k = top_k
        self._route = ops.request(TOPK_SOFTMAX)
        self._experts: Experts = self._unbound

    def bind(self, ops: Ops) -> None:
        """Fix the callable over the loaded weights."""
        self._experts = self.method.bind(self.shape, self._parameters, ops)

    def forward(self, x_TH: Tensor, lora: object | None) -> Tensor:
        """[T, H]. LoRA deltas reach the router only; experts have no slot for them."""
        weights_TK, ids_TK = self._route(self.router.forward(x_TH, lora), self.top_k, self.renormalize)
        return self._experts(x_TH, weights_TK, ids_TK)

    def apply(self, x_TH: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
        """[T, H]: the experts alone, for tokens that are routed already."""
        return self._experts(x_TH, weights_TK, ids_TK)

    def _unbound(self, x: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
        raise RuntimeError(f"{self.shape.path} was used before BuildContext.finalize()")
