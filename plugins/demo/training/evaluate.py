"""Accuracy on held-out items: greedy decoding with transformers, exact answers.

    PYTHONPATH=plugins/demo python -m training.evaluate --items 200 --date 2026-11-23 \
        --write plugins/demo/training/ACCURACY.md
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText

from training.draw import Draw, Split
from training.encode import Encoded, Encoder
from training.items import Item
from training.optimise import report
from training.pixels import normalise
from training.tasks.registry import Task, all_tasks, in_conversation
from training.template import CHECKPOINT

MAX_NEW_TOKENS = 200
MAX_MISSES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    task: str
    thinking: bool
    items: int
    right: int
    misses: list[dict[str, str]]

    @property
    def percent(self) -> float:
        return 100.0 * self.right / self.items


Restyle = Callable[[Item, Draw], Item]


def evaluation_tasks() -> dict[str, Task]:
    """The trained tasks, and their items after other turns."""
    tasks = all_tasks()
    return {
        **tasks,
        "in_conversation": Task(name="in_conversation", make=lambda draw: in_conversation(tasks, draw), share=0.0),
    }


def held_out(task: Task, thinking: bool, count: int, restyle: Restyle | None = None) -> list[Item]:
    """The same items for the same arguments, all from the held-out side."""
    items = []
    for i in range(count):
        draw = Draw(f"evaluate {task.name} {thinking} {i}", Split.HELD_OUT)
        item = task.make(draw)
        items.append(item if restyle is None else restyle(item, draw))
    return items


class Evaluator:
    def __init__(self, model: torch.nn.Module, directory: Path, batch: int = 256) -> None:
        self._model = model
        self._encoder = Encoder(directory)
        self._batch = batch
        tokenizer = self._encoder.tokenizer
        self._pad = tokenizer.token_to_id("<|endoftext|>")
        self._image = tokenizer.token_to_id("<|image_pad|>")
        self._video = tokenizer.token_to_id("<|video_pad|>")

    def score(self, task: Task, thinking: bool, count: int, restyle: Restyle | None = None) -> Score:
        items = held_out(task, thinking, count, restyle)
        outputs = self.answer(items, thinking)
        misses = [
            {"asked": _last_text(item), "expected": item.reply, "got": output}
            for item, output in zip(items, outputs, strict=True)
            if not is_right(item, output, thinking)
        ]
        return Score(
            task=task.name,
            thinking=thinking,
            items=count,
            right=count - len(misses),
            misses=misses[:MAX_MISSES],
        )

    def answer(self, items: list[Item], thinking: bool) -> list[str]:
        """The raw outputs, special tokens included, in the order of the items."""
        rows = [self._encoder.encode(item, thinking=thinking) for item in items]
        order = sorted(range(len(rows)), key=lambda i: rows[i].prompt_len)
        outputs = [""] * len(rows)
        for start in range(0, len(order), self._batch):
            chosen = order[start : start + self._batch]
            for i, text in zip(chosen, self._generate([rows[i] for i in chosen]), strict=True):
                outputs[i] = text
        return outputs

    @torch.inference_mode()
    def _generate(self, rows: list[Encoded]) -> list[str]:
        longest = max(row.prompt_len for row in rows)
        ids = np.full((len(rows), longest), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, longest - row.prompt_len :] = row.ids[: row.prompt_len]
            mask[i, longest - row.prompt_len :] = 1
        types = np.where(ids == self._image, 1, np.where(ids == self._video, 2, 0))
        device = next(self._model.parameters()).device
        inputs: dict[str, torch.Tensor] = {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(mask).to(device),
            "mm_token_type_ids": torch.from_numpy(types).to(device),
            **self._media(rows, device),
        }
        generate: Any = self._model.generate
        made = generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)[:, longest:]
        return [self._text(row) for row in made.tolist()]

    def _media(self, rows: list[Encoded], device: torch.device) -> dict[str, torch.Tensor]:
        inputs = {}
        for is_clip, pixels, grids in (
            (False, "pixel_values", "image_grid_thw"),
            (True, "pixel_values_videos", "video_grid_thw"),
        ):
            media = [m for row in rows for m in row.media if m.is_clip == is_clip]
            if media:
                patches = [normalise(torch.from_numpy(m.patches)) for m in media]
                inputs[pixels] = torch.cat(patches).to(device)
                inputs[grids] = torch.tensor([m.grid for m in media], device=device)
        return inputs

    def _text(self, ids: list[int]) -> str:
        text = self._encoder.tokenizer.decode(ids, skip_special_tokens=False)
        head, end, _ = text.partition("<|im_end|>")
        return head + end


def is_right(item: Item, output: str, thinking: bool) -> bool:
    """The exact reply, its turn ended; with thinking on after one complete thought."""
    if not output.endswith("<|im_end|>"):
        return False
    answer = output.removesuffix("<|im_end|>")
    if thinking:
        thought, closed, answer = answer.partition("\n</think>\n\n")
        if not closed or not thought.startswith("<think>\n"):
            return False
    return answer == item.reply


def _last_text(item: Item) -> str:
    content = item.messages[-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def score_all(evaluator: Evaluator, count: int, names: list[str]) -> Iterator[Score]:
    for task in evaluation_tasks().values():
        if names and task.name not in names:
            continue
        for thinking in task.modes:
            yield evaluator.score(task, thinking, count)


def table(scores: list[Score], date: str, dtype: str) -> str:
    by_task: dict[str, dict[bool, Score]] = {}
    # The adapters' rows come last.
    for score in sorted(scores, key=lambda score: score.task.startswith("adapter ")):
        by_task.setdefault(score.task, {})[score.thinking] = score
    lines = [
        f"# Accuracy of the demo checkpoint, {date}",
        "",
        f"Held-out items, greedy decoding with transformers in {dtype}, exact answers, the turn ended",
        "by the model. Written by `python -m training.evaluate`; do not edit.",
        "",
        "| task | items per mode | thinking on | thinking off |",
        "| --- | ---: | ---: | ---: |",
    ]
    for task, modes in by_task.items():
        cells = [f"{modes[m].percent:.1f} %" if m in modes else "–" for m in (True, False)]
        items = max(score.items for score in modes.values())
        lines.append(f"| {task} | {items} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def misses_json(scores: list[Score]) -> str:
    misses = {f"{s.task} {'on' if s.thinking else 'off'}": s.misses for s in scores if s.misses}
    return json.dumps(misses, indent=1, ensure_ascii=False) + "\n"


def load_model(directory: Path, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    model: torch.nn.Module = AutoModelForImageTextToText.from_pretrained(directory, dtype=dtype)
    return model.to(device).eval()


def _exists(path: Path | None) -> bool:
    return path is not None and path.is_file()


def main() -> None:
    parser = argparse.ArgumentParser(prog="training.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--items", type=int, default=200, help="items for each task and mode")
    parser.add_argument("--task", action="append", default=[], help="only these tasks")
    parser.add_argument("--date", default="undated", help="the date to put on the table")
    parser.add_argument("--write", type=Path, help="write the table to this file")
    parser.add_argument("--rows", type=Path, help="keep rows here, and start from those that are there")
    parser.add_argument("--misses", type=Path, help="write wrong answers to this JSON file")
    parser.add_argument("--adapters", type=Path, help="also score the adapters in this folder")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype: torch.dtype = getattr(torch, options.dtype)
    model = load_model(options.checkpoint, device, dtype)
    evaluator = Evaluator(model, options.checkpoint)
    rows = [score_all(evaluator, options.items, options.task)]
    if options.adapters:
        from training.adapters import score_adapters

        rows.insert(0, score_adapters(options.adapters, options.checkpoint, device, dtype, options.items))
    scores = [Score(**row) for row in json.loads(options.rows.read_text())] if _exists(options.rows) else []
    for score in itertools.chain.from_iterable(rows):
        scores = [old for old in scores if (old.task, old.thinking) != (score.task, score.thinking)]
        scores.append(score)
        report(f"{score.task:20} thinking={score.thinking!s:5} {score.percent:.1f}")
        # Written after every row, so that an interrupted evaluation leaves what it has.
        if options.rows:
            options.rows.write_text(json.dumps([dataclasses.asdict(s) for s in scores], indent=1) + "\n")
        if options.write:
            options.write.write_text(table(scores, options.date, options.dtype))
        if options.misses:
            options.misses.write_text(misses_json(scores))


if __name__ == "__main__":
    main()
