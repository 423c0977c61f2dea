"""Linear layers: one weight for one or several projections of the same input.

Shape letters: T tokens, I input features, O output features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hookline.layers.ops import ADD_NORM_GATED, ADD_NORM_LINEAR, ADD_NORM_ROUTE, LINEAR, Ops
from hookline.layers.parameters import Parameter, Part, Split, fused

if TYPE_CHECKING:
    from hookline.interfaces.lora import LoRABackend

#: Applies a projection to x [T, I]: [T, O].
Projection = Callable[[Tensor], Tensor]
#: Applies norm and router to (x [T, I], residual [T, I] or None): see ``ADD_NORM_ROUTE``.
NormedRouter = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor, Tensor]]
#: Applies norm and projection to (x [T, I], residual [T, I] or None): ([T, O], their sum [T, I]).
NormedProjection = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearShape:
    """What a linear layer computes, whatever the format of its weight."""

    #: Path in the model: "model.layers.0.self_attn.qkv_proj".
    path: str
    in_features: int
    #: Output stretches in order; one unless projections are fused. Their names replace the path's last
    #: component in checkpoints.
    parts: tuple[Part, ...]
    bias: bool
    split: Split

    @property
    def out_features(self) -> int:
        """O: the sum of the parts."""
        return sum(part.size for part in self.parts)

    @property
    def parent(self) -> str:
        """The path without its last component."""
        return self.path.rpartition(".")[0]


class LinearMethod(ABC):
    """A weight format: which parameters a linear layer has, and how they are applied."""

    @abstractmethod
    def parameters(self, shape: LinearShape, dtype: torch.dtype, device: torch.device) -> list[Parameter]:
        """The layer's empty parameters, named under ``shape.path``. Called once, at build time."""

    @abstractmethod
    def bind(self, shape: LinearShape, parameters: list[Parameter], ops: Ops) -> Projection:
        """The projection over filled parameters (those of ``parameters``, in that order).

        Called after every load of weights; anything derived from them is derived here.
        """

    def bind_normed(
        self, shape: LinearShape, parameters: list[Parameter], norm_I: Tensor, eps: float, gate: str | None, ops: Ops
    ) -> NormedProjection | None:
        """As ``bind``, with the RMS norm before it in one pass, and with ``gate`` the gated activation behind it.

        ``None`` if the format has no such form; then the layer runs as its parts.
        """
        return None

    def bind_router(
        self,
        shape: LinearShape,
        parameters: list[Parameter],
        norm_I: Tensor,
        eps: float,
        top_k: int,
        renormalize: bool,
        ops: Ops,
    ) -> NormedRouter | None:
        """As ``bind_normed`` for the router of experts, with the choice of experts behind it."""
        return None


class UnquantizedLinear(LinearMethod):
    """Weights in the compute dtype: weight [O, I] and, if asked, bias [O]."""

    def parameters(self, shape: LinearShape, dtype: torch.dtype, device: torch.device) -> list[Parameter]:
        found = [self._parameter(shape, "weight", (shape.in_features,), dtype, device)]
        if shape.bias:
            found.append(self._parameter(shape, "bias", (), dtype, device))
        return found

    def _parameter(
        self, shape: LinearShape, suffix: str, trailing: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Parameter:
        return Parameter(
            name=f"{shape.path}.{suffix}",
            data=torch.empty(shape.out_features, *trailing, dtype=dtype, device=device),
            forms=fused(shape.parent, suffix, shape.parts, trailing),
            split=shape.split,
            parts=shape.parts,
        )

    def bind(self, shape: LinearShape, parameters: list[Parameter], ops: Ops) -> Projection:
        linear = ops.request(LINEAR)
        weight_OI = parameters[0].data
        bias_O = parameters[1].data if shape.bias else None

        def project(x_TI: Tensor) -> Tensor:
            return linear(x_TI, weight_OI, bias_O)

        return project

    def bind_normed(
        self, shape: LinearShape, parameters: list[Parameter], norm_I: Tensor, eps: float, gate: str | None, ops: Ops
    ) -> NormedProjection | None:
        weight_OI = parameters[0].data
        if gate is None:
            fused = ops.request(ADD_NORM_LINEAR)
            bias_O = parameters[1].data if shape.bias else None
            return lambda x, residual: fused(x, residual, norm_I, eps, weight_OI, bias_O)
        if gate != "silu" or shape.bias:
            return None
        gated = ops.request(ADD_NORM_GATED)
        return lambda x, residual: gated(x, residual, norm_I, eps, weight_OI)

    def bind_router(
        self,
        shape: LinearShape,
        parameters: list[Parameter],
        norm_I: Tensor,
        eps: float,
        top_k: int,
        renormalize: bool,
        ops: Ops,
    ) -> NormedRouter | None:
        if shape.bias:
            return None
        weight_OI, route = parameters[0].data, ops.request(ADD_NORM_ROUTE)
        return lambda x, residual: route(x, residual, norm_I, eps, weight_OI, top_k, renormalize)


class Linear:
    """A linear layer with a slot for LoRA deltas. Made by ``BuildContext``, usable after ``bind``.

    ``forward(x, lora)`` maps x [T, I] to [T, O]; ``lora`` is ``ForwardBatch.lora``.
    """

    __slots__ = ("_parameters", "forward", "method", "shape")

    def __init__(self, shape: LinearShape, method: LinearMethod, parameters: list[Parameter]) -> None:
        self.shape = shape
        self.method = method
        self._parameters = parameters
        #: A plain callable, replaced by ``bind``: a forward pass does no look-up.
        self.forward: Callable[[Tensor, object | None], Tensor] = self._unbound

    @property
    def weight(self) -> Tensor:
        """The first parameter's tensor (for an unquantised layer the weight [O, I])."""
        return self._parameters[0].data

    def bind(self, ops: Ops, lora: LoRABackend | None) -> None:
        """Fix the callable; ``lora`` is the backend that adds deltas, if the engine has adapters."""
        project = self.method.bind(self.shape, self._parameters, ops)
        if lora is None:
            self.forward = lambda x, _lora: project(x)
            return
        add_delta = lora.add_delta

        def with_delta(x_TI: Tensor, plan: object | None) -> Tensor:
            out_TO = project(x_TI)
            return out_TO if plan is None else add_delta(self, x_TI, out_TO, plan)

        self.forward = with_delta

    def bind_normed(self, norm_I: Tensor, eps: float, gate: str | None, ops: Ops) -> NormedProjection | None:
        """See ``LinearMethod.bind_normed``."""
        return self.method.bind_normed(self.shape, self._parameters, norm_I, eps, gate, ops)

    def bind_router(self, norm_I: Tensor, eps: float, top_k: int, renormalize: bool, ops: Ops) -> NormedRouter | None:
        """See ``LinearMethod.bind_router``."""
        return self.method.bind_router(self.shape, self._parameters, norm_I, eps, top_k, renormalize, ops)

    def _unbound(self, x: Tensor, lora: object | None) -> Tensor:
        raise RuntimeError(f"{self.shape.path} was used before BuildContext.finalize()")
