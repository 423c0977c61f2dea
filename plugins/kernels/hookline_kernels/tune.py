"""Measures tiles of the experts' kernels on this device and writes the table that ``fused_moe`` reads.

    python -m hookline_kernels.tune [--shape NAME ...] [--tokens N ...] [--seconds 100] [--out DIRECTORY]

Candidates are compiled by parallel processes first; each is checked against float32 products before it counts.
Shapes are tuned in the order given until the time is over; what was not reached keeps its old entry or the rule.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hookline_kernels.triton_moe.candidates import few_candidates, grouped_candidates
from hookline_kernels.triton_moe.experts import tiled_moe
from hookline_kernels.triton_moe.few import few_down, few_up
from hookline_kernels.triton_moe.grouped import grouped_down, grouped_up
from hookline_kernels.triton_moe.measuring import Bench, Layer, Measured
from hookline_kernels.triton_moe.tiles import (
    ExpertsShape,
    FewTile,
    GroupedTile,
    Tiles,
    default_grouped,
    table_name,
)

#: Experts, top k, hidden, width.
SHAPES = {
    "qwen3-30b-a3b": (128, 8, 2048, 768),
    "qwen3-235b-a22b": (128, 8, 4096, 1536),
    "qwen3-235b-a22b-tp4": (128, 8, 4096, 384),
}
#: Numbers of tokens, most wanted first.
TOKENS = (1, 256, 8192, 64, 16, 4, 16384, 1024, 2, 8, 128, 2048, 512, 32, 4096)
#: Tokens up to which matrix-vector products are tried.
MOST_FEW = 16
#: Farther from the float32 product than this is wrong: rounding to bfloat16 costs 0.002.
WORST_ERROR = 0.01
#: Of an H200: bytes per microsecond of a copy, operations per microsecond of a matrix product.
BANDWIDTH, RATE = 4.25e6, 783e6

Tile = FewTile | GroupedTile


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# --- compiling ---


def compile_all(shape: ExpertsShape, top_k: int, jobs: Iterable[tuple[Tile, bool]]) -> None:
    """Fill Triton's cache: a call without a single expert compiles the kernel and runs nothing of it."""
    dtype: torch.dtype = getattr(torch, shape.dtype)
    device = torch.device("cuda")
    # Memory that nothing touches: the kernels return before they read a weight.
    w13 = torch.empty(shape.experts, 2 * shape.width, shape.hidden, dtype=dtype, device=device)
    w2 = torch.empty(shape.experts, shape.hidden, shape.width, dtype=dtype, device=device)
    x = torch.zeros(2, shape.hidden, dtype=dtype, device=device)
    ids = torch.full((2, top_k), -1, device=device)
    weights = torch.zeros(2, top_k, device=device)
    hidden = torch.zeros(2 * top_k, shape.width, dtype=dtype, device=device)
    order = torch.zeros(2 * top_k, dtype=torch.int32, device=device)
    counts = torch.zeros(shape.experts, dtype=torch.int32, device=device)
    for tile, is_up in jobs:
        try:
            if isinstance(tile, FewTile):
                if is_up:
                    few_up(x, w13, ids, tile)
                else:
                    few_down(hidden, w2, weights, ids, tile)
            elif is_up:
                grouped_up(x, w13, order, counts, top_k, tile)
            else:
                grouped_down(hidden, w2, order, counts, weights, tile)
            torch.cuda.synchronize()
        except Exception as error:
            say(f"# does not compile: {tile} ({str(error).splitlines()[0] if str(error) else type(error).__name__})")


def compile_in_parallel(shape: ExpertsShape, top_k: int, jobs: list[tuple[Tile, bool]]) -> None:
    count = max(1, min(len(jobs), (os.cpu_count() or 2) - 1))
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=compile_all, args=(shape, top_k, jobs[index::count]), daemon=True)
        for index in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def jobs_of(shape: ExpertsShape, top_k: int, numbers: Sequence[int]) -> list[tuple[Tile, bool]]:
    """Every kernel that any number of tokens will try, once."""
    jobs: dict[tuple[Tile, bool], None] = {}
    if min(numbers) <= MOST_FEW:
        for tile in few_candidates():
            jobs.update({(tile, True): None, (tile, False): None})
    for tokens in numbers:
        mean = tokens * top_k / shape.experts
        for is_up in (True, False):
            jobs.update({(tile, is_up): None for tile in grouped_candidates(mean, is_up)})
            jobs[default_grouped(mean, shape.dtype)[0 if is_up else 1], is_up] = None
    return list(jobs)


# --- measuring ---


@dataclass(frozen=True, slots=True)
class Row:
    tile: Tile
    measured: Measured


class Tuning:
    """The measurements of one shape."""

    def __init__(self, name: str, dtype: str, tokens: Sequence[int], deadline: float) -> None:
        experts, self.top_k, hidden, width = SHAPES[name]
        self.shape = ExpertsShape(experts=experts, width=width, hidden=hidden, dtype=dtype)
        self.name, self._numbers, self._deadline = name, tokens, deadline
        self._few: dict[int, FewTile] = {}
        self._few_wins: dict[int, bool] = {}
        self._grouped: dict[int, tuple[GroupedTile, GroupedTile]] = {}

    def run(self) -> None:
        begin = time.monotonic()
        jobs = jobs_of(self.shape, self.top_k, self._numbers)
        compile_in_parallel(self.shape, self.top_k, jobs)
        say(f"# {self.name}: {len(jobs)} kernels compiled in {time.monotonic() - begin:.0f} s")
        layer = Layer.random(self.shape, self.top_k, torch.device("cuda"))
        for tokens in self._numbers:
            if time.monotonic() > self._deadline:
                say(f"# no time left for {tokens} tokens and what follows")
                break
            self._tokens(Bench(layer, tokens))
            torch.cuda.empty_cache()

    def entry(self, old: dict[str, Any] | None) -> dict[str, Any]:
        """The table's entry for the shape; what was not measured is as in the ``old`` one."""
        old = old or {"few_pairs": 0, "few": asdict(FewTile()), "grouped": []}
        grouped = {one["pairs"]: one for one in old["grouped"]}
        for tokens, (up, down) in self._grouped.items():
            pairs = tokens * self.top_k
            grouped[pairs] = {"pairs": pairs, "up": asdict(up), "down": asdict(down)}
        wins = [tokens * self.top_k for tokens, won in self._few_wins.items() if won]
        return {
            "shape": asdict(self.shape),
            "few_pairs": max(wins, default=0) if self._few_wins else old["few_pairs"],
            "few": asdict(self._few[min(self._few)]) if self._few else old["few"],
            "grouped": [grouped[pairs] for pairs in sorted(grouped)],
        }

    def _tokens(self, bench: Bench) -> None:
        tokens, mean = bench.tokens, bench.pairs / self.shape.experts
        say(f"## {self.name}: {tokens} tokens, {bench.distinct:.0f} experts")
        best = []
        for is_up in (True, False):
            tiles = {default_grouped(mean, self.shape.dtype)[0 if is_up else 1]: None}
            tiles.update(dict.fromkeys(grouped_candidates(mean, is_up)))
            best.append(self._best(bench, tiles, is_up))
        up, down = best
        if not isinstance(up, GroupedTile) or not isinstance(down, GroupedTile):
            return
        self._grouped[tokens] = (up, down)
        if tokens <= MOST_FEW:
            self._try_few(bench, up, down)
        else:
            self._whole(bench, "whole", Tiles(few_pairs=0, few=FewTile(), up=up, down=down))

    def _try_few(self, bench: Bench, up: GroupedTile, down: GroupedTile) -> None:
        few_up_best = self._best(bench, few_candidates(), True)
        few_down_best = self._best(bench, few_candidates(), False)
        few = FewTile()
        if isinstance(few_up_best, FewTile) and isinstance(few_down_best, FewTile):
            few = FewTile(
                up_rows=few_up_best.up_rows, up_warps=few_up_best.up_warps,
                down_rows=few_down_best.down_rows, down_warps=few_down_best.down_warps,
            )  # fmt: skip
        by_few = self._whole(bench, "whole, few", Tiles(few_pairs=1 << 30, few=few, up=up, down=down))
        by_grouped = self._whole(bench, "whole, grouped", Tiles(few_pairs=0, few=few, up=up, down=down))
        self._few[bench.tokens], self._few_wins[bench.tokens] = few, by_few < by_grouped

    def _whole(self, bench: Bench, label: str, tiles: Tiles) -> float:
        measured = bench.whole(lambda x, a, b, weights, ids: tiled_moe(x, a, b, weights, ids, tiles))
        self._say(bench, label, measured, (True, False))
        return measured.microseconds

    def _best(self, bench: Bench, tiles: Iterable[Tile], is_up: bool) -> Tile | None:
        rows = sorted(self._measured(bench, tiles, is_up), key=lambda row: row.measured.microseconds)
        for row in rows[:4]:
            self._say(bench, short(row.tile, is_up), row.measured, (is_up,))
        return rows[0].tile if rows else None

    def _measured(self, bench: Bench, tiles: Iterable[Tile], is_up: bool) -> Iterator[Row]:
        seen = set()
        for tile in tiles:
            if short(tile, is_up) in seen:
                continue
            seen.add(short(tile, is_up))
            try:
                measured = bench.few(tile, is_up) if isinstance(tile, FewTile) else bench.grouped(tile, is_up)
            except Exception as error:
                say(f"# fails: {short(tile, is_up)} ({str(error).splitlines()[0] if str(error) else error!r})")
                continue
            if not measured.error < WORST_ERROR:
                say(f"# wrong by {measured.error:.1e}: {short(tile, is_up)}")
                continue
            yield Row(tile, measured)

    def _say(self, bench: Bench, label: str, measured: Measured, halves: tuple[bool, ...]) -> None:
        num_bytes = sum(bench.num_bytes(half) for half in halves)
        flops = sum(bench.flops(half) for half in halves)
        time_us = measured.microseconds
        limit = max(num_bytes / BANDWIDTH, flops / RATE)
        say(
            f"{label:44} {time_us:9.1f} us {num_bytes / time_us / 1e6:5.2f} TB/s {flops / time_us / 1e6:6.1f} TFLOP/s "
            f"{limit / time_us:5.0%} {measured.error:8.1e} {measured.digest}"
        )


def short(tile: Tile, is_up: bool) -> str:
    """A tile in a few characters."""
    kind = "up" if is_up else "down"
    if isinstance(tile, FewTile):
        rows, warps = (tile.up_rows, tile.up_warps) if is_up else (tile.down_rows, tile.down_warps)
        return f"few {kind} rows {rows} warps {warps}{'' if tile.dependent else ' not dependent'}"
    flags = "".join(
        f" {name}"
        for name, on in (
            ("swap", tile.swap),
            ("w-tma", tile.weights_tma),
            ("x-tma", tile.rows_tma),
            (f"{tile.per_sm}/sm", tile.per_sm),
        )
        if on
    )
    return f"{kind} {tile.rows}x{tile.columns}x{tile.depth} warps {tile.num_warps} stages {tile.num_stages}{flags}"


# --- the command ---


def write(path: Path, tuning: Tuning) -> None:
    """The table, with the entries of other shapes that it had."""
    entries = json.loads(path.read_text()) if path.is_file() else []
    shape = asdict(tuning.shape)
    (old,) = [entry for entry in entries if entry["shape"] == shape] or [None]
    kept = [entry for entry in entries if entry["shape"] != shape]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*kept, tuning.entry(old)], indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=sorted(SHAPES), default=["qwen3-30b-a3b"])
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS, help="numbers of tokens, most wanted first")
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--seconds", type=float, default=100.0, help="stop measuring after so long")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "triton_moe" / "tables")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this measures kernels on a CUDA device, and there is none here")
    torch.manual_seed(0)
    deadline = time.monotonic() + options.seconds
    path = options.out / table_name(torch.cuda.get_device_name())
    for name in options.shape:
        tuning = Tuning(name, options.dtype, options.tokens, deadline)
        with torch.inference_mode():
            tuning.run()
        write(path, tuning)
    say(f"# wrote {path}")


if __name__ == "__main__":
    main()
