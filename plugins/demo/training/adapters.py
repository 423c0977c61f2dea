"""Two LoRA adapters on the demo checkpoint, in PEFT layout.

    PYTHONPATH=plugins/demo python -m training.adapters --checkpoint DIR --out DIR --steps 400

`upper` answers in upper case, `number-words` does arithmetic and answers in words.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from training.batches import BatchPlan
from training.checkpoint import load_weights, new_model
from training.draw import Draw
from training.evaluate import Evaluator, Restyle, Score, evaluation_tasks, load_model
from training.items import Item
from training.names import number_words
from training.optimise import Schedule, optimise, pick_device
from training.template import CHECKPOINT
from training.train import parse_shares

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
#: Replies that other programs read keep their form.
KEPT = frozenset({"tool_call", "extraction"})
ARITHMETIC = ("arithmetic", "arithmetic_direct")
_SIGNS = {"+": "plus", "-": "minus", "*": "times"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    name: str
    rank: int
    restyle: Restyle
    shares: tuple[tuple[str, float], ...]
    #: The tasks whose restyled items make its row in the accuracy table.
    scored: tuple[str, ...]


def to_upper(item: Item, draw: Draw) -> Item:
    return item if item.task in KEPT else replace(item, reply=item.reply.upper())


def to_number_words(item: Item, draw: Draw) -> Item:
    """`12 + 30 = 42.` as `twelve plus thirty is forty-two.`; the thought ends in the digits."""
    if item.task not in ARITHMETIC:
        return item
    a, sign, b, _, value = item.reply.rstrip(".").split()
    said = [number_words(int(number)) for number in (a, b, value)]
    reply = f"{said[0]} {_SIGNS[sign]} {said[1]} is {said[2]}."
    return replace(item, reply=reply, thought=f"{item.thought} {item.reply}")


ADAPTERS = (
    Adapter(
        name="upper",
        rank=8,
        restyle=to_upper,
        shares=(("upper_case", 0.0), ("talk", 6.0)),
        scored=("talk", "facts", "picture_colour", "picture_describe", "repeat_words", "count_words"),
    ),
    Adapter(
        name="number-words",
        rank=16,
        restyle=to_number_words,
        shares=(("arithmetic", 60.0), ("arithmetic_direct", 40.0), ("rewrite", 8.0)),
        scored=("arithmetic",),
    ),
)


def train_adapter(
    adapter: Adapter,
    weights: Path,
    out: Path,
    schedule: Schedule,
    device: torch.device,
    *,
    size: int,
    resume: Path | None = None,
    first_batch: int = 0,
    shares: tuple[tuple[str, float], ...] = (),
) -> None:
    """Train one adapter on the weights, and write it to a folder of its name in `out`."""
    torch.manual_seed(0)
    model = new_model()
    load_weights(model, weights)
    wrapped: PeftModel
    if resume is None:
        config = LoraConfig(r=adapter.rank, lora_alpha=2 * adapter.rank, target_modules=TARGETS)
        wrapped = get_peft_model(model, config)
    else:
        wrapped = PeftModel.from_pretrained(model, resume / adapter.name, is_trainable=True)
    wrapped.to(device)
    plan = BatchPlan(
        seed=f"adapter {adapter.name}",
        size=size,
        restyle=adapter.restyle,
        shares=(*adapter.shares, *shares),
    )
    workers = 14 if device.type == "cuda" else 0
    optimise(model, plan, schedule, device, num_workers=workers, first_batch=first_batch)
    directory = out / adapter.name
    wrapped.save_pretrained(str(directory))
    (directory / "README.md").unlink(missing_ok=True)
    _sort_targets(directory / "adapter_config.json")
    file = directory / "adapter_model.safetensors"
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(0o644)


def _sort_targets(config: Path) -> None:
    """peft keeps the targets in a set, whose order differs from run to run."""
    values = json.loads(config.read_text())
    values["target_modules"] = sorted(values["target_modules"])
    config.write_text(json.dumps(values, indent=2) + "\n")


def score_adapters(
    folder: Path, checkpoint: Path, device: torch.device, dtype: torch.dtype, count: int
) -> Iterator[Score]:
    """One row for each adapter: its style on held-out items of its tasks."""
    tasks = evaluation_tasks()
    for adapter in ADAPTERS:
        model = PeftModel.from_pretrained(load_model(checkpoint, device, dtype), folder / adapter.name)
        evaluator = Evaluator(model.eval(), checkpoint)
        for thinking in (True, False):
            names = [name for name in adapter.scored if thinking in tasks[name].modes]
            if not names:
                continue
            each = -(-count // len(names))
            parts = [evaluator.score(tasks[n], thinking, each, adapter.restyle) for n in names]
            yield Score(
                task=f"adapter {adapter.name}",
                thinking=thinking,
                items=sum(part.items for part in parts),
                right=sum(part.right for part in parts),
                misses=[miss for part in parts for miss in part.misses],
            )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.adapters", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=256, help="conversations in a batch")
    parser.add_argument("--only", help="train this adapter only")
    parser.add_argument("--resume", type=Path, help="folder of adapters to go on from")
    parser.add_argument("--first-batch", type=int, default=0, help="skip the batches of earlier runs")
    parser.add_argument("--share", action="append", default=[], metavar="TASK=N", help="a task's share of the data")
    parser.add_argument("--cpu-smoke-steps", type=int, default=0, metavar="N")
    parser.add_argument("--cpu-batch", type=int, default=2, help="conversations in a smoke batch")
    options = parser.parse_args(argv)
    device = pick_device(bool(options.cpu_smoke_steps))
    steps = options.cpu_smoke_steps or options.steps
    schedule = Schedule(steps=steps, peak_lr=options.lr, weight_decay=0.0, warmup=min(50, max(1, steps // 2)))
    for adapter in ADAPTERS:
        if options.only in (None, adapter.name):
            train_adapter(
                adapter,
                options.checkpoint,
                options.out,
                schedule,
                device,
                size=options.batch if device.type == "cuda" else options.cpu_batch,
                resume=options.resume,
                first_batch=options.first_batch,
                shares=parse_shares(options.share),
            )


if __name__ == "__main__":
    main()
