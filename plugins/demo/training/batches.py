"""Training batches: many conversations packed end to end, pictures grouped by their grid."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.draw import Draw, Split
from training.encode import Encoded, Encoder
from training.items import Item
from training.pixels import MERGE
from training.scenes import draw_clip_size, draw_size
from training.tasks.registry import MediaSizes, all_tasks, draw_item

MAX_LENGTH = 1600


@dataclass(slots=True, kw_only=True)
class VisualGroup:
    """All pictures (or frame pairs) of one grid in a batch."""

    grid: tuple[int, int]
    patches: torch.Tensor  #: uint8 [number, patches of one, 768 or 1536]
    targets: torch.Tensor  #: [number * merged patches of one], indices into the packed tokens


@dataclass(slots=True, kw_only=True)
class Batch:
    ids: torch.Tensor  #: the tokens of all conversations
    positions: torch.Tensor  #: [3, tokens]
    starts: torch.Tensor  #: int32 [number of conversations + 1]
    max_len: int
    predict: torch.Tensor  #: indices of tokens whose successor is to be predicted
    labels: torch.Tensor
    groups: list[VisualGroup]
    segments: torch.Tensor  #: int32, where each picture begins among all patches, and their number


@dataclass(slots=True, kw_only=True)
class Wire:
    """A batch as two buffers, because every tensor that leaves a worker process costs time."""

    numbers: torch.Tensor
    pixels: torch.Tensor
    lengths: list[int]
    max_len: int
    shapes: list[tuple[tuple[int, int], torch.Size]]

    @classmethod
    def of(cls, batch: Batch) -> Wire:
        parts = [batch.ids, batch.positions.flatten(), batch.starts, batch.predict]
        parts += [batch.labels, batch.segments, *(group.targets for group in batch.groups)]
        pixels = [group.patches.flatten() for group in batch.groups]
        return cls(
            numbers=torch.cat([part.long() for part in parts]),
            pixels=torch.cat(pixels) if pixels else torch.empty(0, dtype=torch.uint8),
            lengths=[len(part) for part in parts],
            max_len=batch.max_len,
            shapes=[(group.grid, group.patches.shape) for group in batch.groups],
        )

    def batch(self, device: torch.device) -> Batch:
        numbers = torch.split_with_sizes(self.numbers.to(device), self.lengths)
        ids, positions, starts, predict, labels, segments, *targets = numbers
        sizes = [shape.numel() for _, shape in self.shapes]
        pixels = torch.split_with_sizes(self.pixels.to(device), sizes)
        return Batch(
            ids=ids,
            positions=positions.view(3, -1),
            starts=starts.int(),
            max_len=self.max_len,
            predict=predict,
            labels=labels,
            groups=[
                VisualGroup(grid=grid, patches=patches.view(shape), targets=places)
                for (grid, shape), patches, places in zip(self.shapes, pixels, targets, strict=True)
            ],
            segments=segments.int(),
        )


def pack(rows: list[Encoded]) -> Batch:
    lengths = [len(row.ids) for row in rows]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    predict = [
        np.arange(row.prompt_len - 1, len(row.ids) - 1) + start for row, start in zip(rows, starts, strict=False)
    ]
    ids = np.concatenate([row.ids for row in rows])
    index = np.concatenate(predict)
    groups = _group(rows, starts)
    patches = [group.patches.shape[1] for group in groups for _ in range(len(group.patches))]
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(np.concatenate([row.positions for row in rows], axis=1)),
        starts=torch.from_numpy(starts.astype(np.int32)),
        max_len=max(lengths),
        predict=torch.from_numpy(index),
        labels=torch.from_numpy(ids[index + 1]),
        groups=groups,
        segments=torch.tensor([0, *itertools.accumulate(patches)], dtype=torch.int32),
    )


def _group(rows: list[Encoded], starts: np.ndarray) -> list[VisualGroup]:
    patches: dict[tuple[int, int, bool], list[np.ndarray]] = defaultdict(list)
    targets: dict[tuple[int, int, bool], list[np.ndarray]] = defaultdict(list)
    for row, start in zip(rows, starts, strict=False):
        taken = 0
        for media in row.media:
            frames, height, width = media.grid
            count = frames * height * width // MERGE**2
            key = (height, width, media.is_clip)
            patches[key].append(media.patches.reshape(frames, height * width, -1))
            targets[key].append(row.visual[taken : taken + count] + start)
            taken += count
    return [
        VisualGroup(
            grid=key[:2],
            patches=torch.from_numpy(np.concatenate(patches[key])),
            targets=torch.from_numpy(np.concatenate(targets[key])),
        )
        for key in sorted(patches)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What batches are made of. Batch i depends on the plan and on i, not on who makes it."""

    seed: str
    size: int
    #: Turns a drawn item into what is trained on, or leaves it; an adapter's style goes here.
    only: tuple[str, ...] = ()
    restyle: Callable[[Item, Draw], Item] | None = None
    shares: tuple[tuple[str, float], ...] = ()  #: overrides of the tasks' shares


def make_batch(plan: BatchPlan, index: int, encoder: Encoder) -> Batch:
    sizes_draw = Draw(f"{plan.seed} sizes {index}", Split.TRAIN).rng
    tasks = all_tasks(
        MediaSizes(
            pictures=[draw_size(sizes_draw) for _ in range(6)],
            frames=[draw_clip_size(sizes_draw) for _ in range(2)],
        ),
        dict(plan.shares),
    )
    if plan.only:
        tasks = {name: tasks[name] for name in plan.only}
    rows: list[Encoded] = []
    number = 0
    while len(rows) < plan.size:
        draw = Draw(f"{plan.seed} {index} {number}", Split.TRAIN)
        number += 1
        item, thinking = draw_item(tasks, draw)
        if plan.restyle is not None:
            item = plan.restyle(item, draw)
        row = encoder.encode(item, thinking=thinking, rng=draw.rng)
        if len(row.ids) <= MAX_LENGTH:
            rows.append(row)
    return pack(rows)


class _Batches(IterableDataset[Wire]):
    def __init__(self, plan: BatchPlan, first: int, count: int) -> None:
        self._plan, self._first, self._count = plan, first, count

    def __iter__(self) -> Iterator[Wire]:
        torch.set_num_threads(1)
        info = get_worker_info()
        step, offset = (info.num_workers, info.id) if info is not None else (1, 0)
        encoder = Encoder()
        for index in range(self._first + offset, self._first + self._count, step):
            yield Wire.of(make_batch(self._plan, index, encoder))


def batches(plan: BatchPlan, first: int, count: int, num_workers: int) -> Iterator[Wire]:
    """Batches first … first + count - 1, in order, made by worker processes."""
    loader = DataLoader(
        _Batches(plan, first, count),
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        pin_memory=False,
    )
    return iter(loader)
