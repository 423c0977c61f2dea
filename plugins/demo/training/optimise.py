"""The optimisation loop that full training and adapter training share."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import sys
import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from training.batches import BatchPlan, batches
from training.muon import Muon
from training.packed import PackedModel

WARMUP_STEPS = 100
BALANCE_WEIGHT = 0.01
REFIT_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    steps: int
    peak_lr: float
    #: The rate for Muon on the layers' matrices; without it AdamW trains them too.
    muon_lr: float | None = None
    #: If set, `steps` is replaced after a few steps by what fits in these minutes.
    fit_minutes: float | None = None
    weight_decay: float = 0.05
    warmup: int = WARMUP_STEPS

    def factor(self, step: int) -> float:
        """Linear warm-up to one, then linear decay to zero."""
        up = (step + 1) / self.warmup
        down = (self.steps - step) / max(1, self.steps - self.warmup)
        return max(0.0, min(up, down))


def report(line: str) -> None:
    """A line of progress, seen at once also where output is collected."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def pick_device(smoke: bool) -> torch.device:
    """The GPU, set to the same result in every run; or the CPU if only a smoke run is asked for."""
    if smoke:
        torch.set_num_threads(1)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SystemExit(
            "Training needs a CUDA GPU and this machine has none; "
            "use --cpu-smoke-steps N for a smoke run of N tiny steps on the CPU."
        )
    # Read when cuBLAS starts; without it its sums depend on the order in which streams finish.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Deterministic mode would also fill every new tensor, which costs time and finds no error here.
    torch.utils.deterministic.fill_uninitialized_memory = False
    return torch.device("cuda")


def optimise(
    model: nn.Module,
    plan: BatchPlan,
    schedule: Schedule,
    device: torch.device,
    *,
    num_workers: int,
    first_batch: int = 0,
) -> Schedule:
    """Train what requires a gradient; returns the schedule as it was run."""
    packed = PackedModel(model)
    optimisers = _optimisers(model, schedule)
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else _no_autocast()
    count = schedule.steps if schedule.fit_minutes is None else 1_000_000
    # The model's many objects need no look from the garbage collector.
    gc.freeze()
    begun = marked = time.monotonic()
    losses: list[torch.Tensor] = []
    for step, wire in enumerate(batches(plan, first_batch, count, num_workers)):
        for group in itertools.chain.from_iterable(o.param_groups for o in optimisers):
            group["lr"] = group["peak_lr"] * schedule.factor(step)
        batch = wire.batch(device)
        with autocast:
            logits, balance = packed(batch)
            loss = F.cross_entropy(logits.float(), batch.labels)
            total = loss + BALANCE_WEIGHT * balance
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(_trained(model), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(loss.detach())
        if schedule.fit_minutes is not None and step % REFIT_EVERY == REFIT_EVERY - 1:
            _wait(device)
            now = time.monotonic()
            schedule = _fitted(schedule, step, (now - marked) / REFIT_EVERY, now - begun)
            marked = now
        if step % 100 == 99 or step == schedule.steps - 1 or device.type == "cpu":
            mean = torch.stack(losses).mean().item()
            losses.clear()
            report(
                f"step {step + 1}/{schedule.steps} loss {mean:.4f} balance {balance.item():.3f} "
                f"tokens {len(batch.ids)} {time.monotonic() - begun:.0f}s"
            )
        if step == schedule.steps - 1:
            break
    return replace(schedule, fit_minutes=None)


def _fitted(schedule: Schedule, step: int, seconds: float, elapsed: float) -> Schedule:
    """The schedule with as many steps as fit at the present pace, until half of the time is over."""
    assert schedule.fit_minutes is not None
    left = schedule.fit_minutes * 60 - elapsed
    if left < schedule.fit_minutes * 30:
        return replace(schedule, fit_minutes=None)
    return replace(schedule, steps=step + max(1, int(left / seconds)))


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _optimisers(model: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, if the schedule has a rate for it; AdamW otherwise."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    inner = {n for n, p in named if p.ndim in (2, 3) and (".layers." in n or ".blocks." in n)}
    if schedule.muon_lr is None:
        inner = set()
    groups = [
        {
            "params": [p for n, p in named if n not in inner and p.ndim > 1],
            "weight_decay": schedule.weight_decay,
        },
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = named[0][1].is_cuda
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=schedule.peak_lr, betas=(0.9, 0.95), fused=fused)
    ]
    if inner:
        assert schedule.muon_lr is not None
        matrices = [p for n, p in named if n in inner]
        optimisers.append(Muon(matrices, lr=schedule.muon_lr, momentum=0.95, weight_decay=schedule.weight_decay))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return optimisers


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _no_autocast() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()
