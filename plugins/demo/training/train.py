"""Train the demo model.

    PYTHONPATH=plugins/demo python -m training.train --out DIR --steps 4000

`--out` gets the float32 weights in the published layout; `--resume DIR` starts from such weights.
`training.export` turns them into the checkpoint.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from training.batches import BatchPlan
from training.checkpoint import load_weights, new_model, save_weights
from training.optimise import Schedule, optimise, pick_device


def main(argv: list[str] | None = None) -> None:
    options = _parse(argv)
    device = pick_device(bool(options.cpu_smoke_steps))
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    model = new_model()
    if options.resume:
        load_weights(model, options.resume)
    nn.Module.to(model, device)
    steps, size, workers = options.steps, options.batch, options.workers
    if options.cpu_smoke_steps:
        steps, size, workers = options.cpu_smoke_steps, min(size, options.cpu_batch), 0
    plan = BatchPlan(seed=f"train {options.seed}", size=size, shares=parse_shares(options.share))
    fit = None if options.cpu_smoke_steps else options.fit_minutes
    schedule = Schedule(
        steps=steps,
        peak_lr=options.lr,
        muon_lr=options.muon_lr,
        fit_minutes=fit,
        weight_decay=options.weight_decay,
        warmup=min(100, max(1, steps // 2)) if fit is None else 100,
    )
    done = optimise(model, plan, schedule, device, num_workers=workers, first_batch=options.first_batch)
    options.out.mkdir(parents=True, exist_ok=True)
    save_weights(model.state_dict(), options.out, torch.float32)
    record = {
        "steps": done.steps,
        "peak_lr": done.peak_lr,
        "muon_lr": done.muon_lr,
        "batch": size,
        "seed": options.seed,
        "first_batch": options.first_batch,
        "shares": dict(plan.shares),
        "resumed": bool(options.resume),
    }
    (options.out / "run.json").write_text(json.dumps(record, indent=2) + "\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="training.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the float32 weights")
    parser.add_argument("--resume", type=Path, help="folder of an earlier run's weights")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--fit-minutes", type=float, help="choose the steps to fit this time")
    parser.add_argument("--batch", type=int, default=512, help="conversations in a batch")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--muon-lr", type=float, help="train the layers' matrices with Muon")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-batch", type=int, default=0, help="skip the batches of earlier runs")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--share", action="append", default=[], metavar="TASK=N", help="a task's share of the data")
    parser.add_argument("--cpu-smoke-steps", type=int, default=0, metavar="N")
    parser.add_argument("--cpu-batch", type=int, default=4, help="conversations in a smoke batch")
    return parser.parse_args(argv)


def parse_shares(given: list[str]) -> tuple[tuple[str, float], ...]:
    """`["talk=4"]` as `(("talk", 4.0),)`."""
    pairs = (entry.partition("=") for entry in given)
    return tuple((name, float(share)) for name, _, share in pairs)


if __name__ == "__main__":
    main()
