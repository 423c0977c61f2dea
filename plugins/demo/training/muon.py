"""Muon: momentum whose matrix is orthogonalised before it is applied, for stacks of matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

#: Coefficients of the quintic Newton-Schulz iteration.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For parameters of two dimensions, or three with the first as a stack."""

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    by_shape[param.shape].append(param)
            for params in by_shape.values():
                self._step_alike(params, group)

    def _step_alike(self, params: list[torch.Tensor], group: dict[str, Any]) -> None:
        """One step for parameters of one shape."""
        grads = [param.grad for param in params if param.grad is not None]
        buffers = [self.state[param].setdefault("momentum", torch.zeros_like(param)) for param in params]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, buffers, group["momentum"])
        stacked = torch.stack([update.flatten(0, -3) if update.ndim > 3 else update for update in updates])
        turned = orthogonalise(stacked.view(-1, *stacked.shape[-2:])).view_as(stacked)
        rows, cols = stacked.shape[-2:]
        rate = group["lr"] * max(1.0, rows / cols) ** 0.5
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, list(turned.to(params[0].dtype).unbind(0)), alpha=-rate)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices whose singular values are near one, by Newton-Schulz in bfloat16."""
    x: torch.Tensor = matrices.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x if wide else x.mT
