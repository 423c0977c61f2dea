"""The optimisation loop that full training and adapter training share."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from training.batches import BatchPlan, batches
from training.packed import PackedModel

WARMUP_STEPS = 100
BALANCE_WEIGHT = 0.01
MEASURE_FROM, MEASURE_TO = 20, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    steps: int
    peak_lr: float
    #: If set, `steps` is replaced after a few steps by what fits in these minutes.
    fit_minutes: float | None = None
    weight_decay: float = 0.05
    warmup: int = WARMUP_STEPS

    def lr(self, step: int) -> float:
        """Linear warm-up, then linear decay to zero."""
        up = (step + 1) / self.warmup
        down = (self.steps - step) / max(1, self.steps - self.warmup)
        return self.peak_lr * max(0.0, min(up, down))


def pick_device(smoke: bool) -> torch.device:
    """The GPU; or the CPU if only a smoke run is asked for."""
    if smoke:
        torch.set_num_threads(1)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SystemExit(
            "Training needs a CUDA GPU and this machine has none; "
            "use --cpu-smoke-steps N for a smoke run of N tiny steps on the CPU."
        )
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
    optimiser = _optimiser(model, schedule)
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else _no_autocast()
    count = schedule.steps if schedule.fit_minutes is None else 1_000_000
    begun = marked = time.monotonic()
    losses: list[torch.Tensor] = []
    for step, batch in enumerate(batches(plan, first_batch, count, num_workers)):
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr(step)
        moved = batch.to(device)
        with autocast:
            logits, balance = packed(moved)
            loss = F.cross_entropy(logits.float(), moved.labels)
            total = loss + BALANCE_WEIGHT * balance
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(_trained(model), 1.0)
        optimiser.step()
        losses.append(loss.detach())
        if schedule.fit_minutes is not None:
            if step == MEASURE_FROM:
                _wait(device)
                marked = time.monotonic()
            elif step == MEASURE_TO:
                _wait(device)
                now = time.monotonic()
                schedule = _fitted(schedule, step, (now - marked) / (step - MEASURE_FROM), now - begun)
        if step % 100 == 99 or step == schedule.steps - 1 or device.type == "cpu":
            mean = torch.stack(losses).mean().item()
            losses.clear()
            print(
                f"step {step + 1}/{schedule.steps} loss {mean:.4f} balance {balance.item():.3f} "
                f"tokens {len(batch.ids_T)} {time.monotonic() - begun:.0f}s",
                flush=True,
            )
        if step == schedule.steps - 1:
            break
    return replace(schedule, fit_minutes=None)


def _fitted(schedule: Schedule, step: int, seconds: float, elapsed: float) -> Schedule:
    assert schedule.fit_minutes is not None
    # A margin for the growth of steps as the machine's workers fall behind.
    left = schedule.fit_minutes * 60 - elapsed
    steps = step + int(0.97 * left / seconds)
    print(f"{seconds * 1e3:.0f} ms a step: {steps} steps", flush=True)
    return replace(schedule, steps=steps, fit_minutes=None)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _optimiser(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    matrices = [p for p in _trained(model) if p.ndim > 1]
    vectors = [p for p in _trained(model) if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    fused = matrices[0].is_cuda
    return torch.optim.AdamW(groups, lr=schedule.peak_lr, betas=(0.9, 0.95), fused=fused)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _no_autocast() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()
