"""Times tiles of the attention and matrix-vector kernels on this GPU, the best first.

    PYTHONPATH=core HOOKLINE_SOURCE_TREE=plugins python benchmarks/tune_tiles.py [--only NAME] [--top N] [--json FILE]

Kernels are compiled in several processes first; then one process times each tile: the median of replays of a graph that
goes through inputs which do not fit into the cache together. Shapes are those of Qwen3-0.6B and Qwen3-30B-A3B.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from kernels import Pool
from replays import DEVICE, DTYPE, copies, randn, replay_time

from hookline.batch.forward_batch import AttentionGeometry
from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.attention import AttentionEnv, AttentionLayerInfo
from hookline.plugins.manager import load_plugins

#: (C, O, norm before, gated): the products of a decode step.
PRODUCTS = {
    "0.6b qkv": (1024, 4096, True, False),
    "0.6b o": (2048, 1024, False, False),
    "0.6b gate_up": (1024, 3072, True, True),
    "0.6b down": (3072, 1024, False, False),
    "0.6b head": (1024, 151936, False, False),
    "30b qkv": (2048, 5120, True, False),
    "30b o": (4096, 2048, False, False),
    "30b head": (2048, 151936, False, False),
}
#: (requests, context, new tokens, query heads, key-value heads).
PASSES = {
    "decode 1x256 16/8": (1, 256, 1, 16, 8),
    "decode 1x2048 32/4": (1, 2048, 1, 32, 4),
    "decode 256x600 16/8": (256, 600, 1, 16, 8),
    "decode 256x600 32/4": (256, 600, 1, 32, 4),
    "decode 32x1200 16/8": (32, 1200, 1, 16, 8),
    "prefill 4x2048 16/8": (4, 2048, 2048, 16, 8),
    "prefill 4x2048 32/4": (4, 2048, 2048, 32, 4),
    "prefill 32x128+2048 32/4": (32, 2176, 128, 32, 4),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    case: str
    #: Of the tile, by the names of its fields.
    values: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values)


def candidates() -> Iterator[Candidate]:
    for case, (inputs, _, _, gated) in PRODUCTS.items():
        for outputs, width, warps in itertools.product((1, 2, 4, 8), (512, 1024, 2048, 4096), (4, 8)):
            elements = outputs * width * (2 if gated else 1) // (32 * warps)
            if width <= inputs and 8 <= elements <= 64:
                yield Candidate(case, (("outputs", outputs), ("inputs", width), ("num_warps", warps)))
    for case in PASSES:
        if case.startswith("decode"):
            grid = itertools.product((16,), (32, 64, 128), (2, 4, 8), (2, 3, 4))
        else:
            grid = itertools.product((64, 128), (64, 128), (4, 8), (2, 3, 4))
        for rows, keys, warps, stages in grid:
            if rows * warps not in (64 * 8, 128 * 4) or case.startswith("decode"):
                values = (("rows", rows), ("keys", keys), ("num_warps", warps), ("num_stages", stages))
                yield Candidate(case, values)


def subject(candidate: Candidate, small: bool) -> tuple[Any, list[tuple[Any, ...]], int, int]:
    """The call, its sets of inputs, and the bytes and operations of one call."""
    # Puts the plugins' folders on the path.
    load_plugins()
    if candidate.case in PRODUCTS:
        return product(candidate, small)
    return attention(candidate, small)


def product(candidate: Candidate, small: bool) -> tuple[Any, list[tuple[Any, ...]], int, int]:
    from hookline_kernels.triton_dense import products, tiles

    inputs, outputs, norm, gated = PRODUCTS[candidate.case]
    tile = tiles.MatvecTile(**dict(candidate.values))
    products.matvec_tile = lambda *_: tile
    rows = outputs * (2 if gated else 1)
    sets = [(randn(rows, inputs),) for _ in range(1 if small else copies(rows * inputs * 2))]
    x, residual, weight = randn(1, inputs), randn(1, inputs), randn(inputs)
    if gated:
        call = lambda w: products.add_norm_gated(x, residual, weight, 1e-6, w)  # noqa: E731
    elif norm:
        call = lambda w: products.add_norm_linear(x, residual, weight, 1e-6, w, None)  # noqa: E731
    else:
        call = lambda w: products.linear(x, w, None)  # noqa: E731
    return call, sets, rows * inputs * 2, 2 * rows * inputs


def attention(candidate: Candidate, small: bool) -> tuple[Any, list[tuple[Any, ...]], int, int]:
    from hookline_attention.triton_attention import backend, tiles

    batch, context, new, heads, kv_heads = PASSES[candidate.case]
    if small:
        batch = min(batch, 2)
    tile = tiles.Tile(**dict(candidate.values))
    backend.decode_tile = backend.prefill_tile = lambda *_: tile
    env = AttentionEnv(
        device=DEVICE, dtype=DTYPE, page_size=1, num_q_heads=heads, num_kv_heads=kv_heads, head_dim=128,
        max_context_len=8192, max_running_requests=batch,
    )  # fmt: skip
    layer = AttentionLayerInfo(
        layer_id=0, num_q_heads=heads, num_kv_heads=kv_heads, head_dim=128, v_head_dim=128, scale=128**-0.5
    )
    runs = backend.TritonAttention(env)
    # Uneven around the mean, as requests are.
    lens = (
        torch.full((batch,), context)
        if new > 1 or batch == 1
        else torch.randint(context // 2, context * 3 // 2, (batch,))
    )
    widest = int(lens.max())
    table = (torch.randperm(batch * widest, device=DEVICE) + 1).view(batch, widest).int()
    geometry = AttentionGeometry(
        mode=ForwardMode.DECODE if new == 1 else ForwardMode.EXTEND,
        req_to_token=table, req_pool_indices=torch.arange(batch, device=DEVICE),
        seq_lens=lens.to(DEVICE), prefix_lens=lens.to(DEVICE) - new,
        seq_lens_cpu=lens.tolist(), prefix_lens_cpu=(lens - new).tolist(), extend_lens_cpu=[new] * batch,
        out_cache_loc=torch.zeros(batch * new, dtype=torch.int64, device=DEVICE), page_size=1,
    )  # fmt: skip
    plan = runs.plan(geometry)
    runs.prepare(plan, geometry)
    num_bytes = int(lens.sum()) * kv_heads * 128 * 4
    nothing = torch.empty(0, dtype=torch.int64, device=DEVICE)
    pools = [Pool(batch * widest + 1, kv_heads, nothing) for _ in range(1 if small else min(3, copies(num_bytes)))]
    qkv = randn(batch * new, heads + 2 * kv_heads, 128)
    q, k, v = qkv[:, :heads], qkv[:, heads : heads + kv_heads], qkv[:, heads + kv_heads :]
    pairs = batch * (new * (context - new) + new * (new + 1) // 2)
    return (
        lambda pool: runs.forward(q, k, v, layer, pool, plan),
        [(pool,) for pool in pools],
        num_bytes,
        (4 * pairs * heads * 128),
    )


def compile_one(candidate: Candidate) -> str:
    try:
        call, sets, *_ = subject(candidate, small=True)
        with torch.inference_mode():
            call(*sets[0])
        torch.cuda.synchronize()
    except Exception as exc:
        return f"{type(exc).__name__}: {str(exc)[:80]}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases with this in their name; several parted by commas")
    parser.add_argument("--top", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = options.only.split(",")
    chosen = [c for c in candidates() if any(name in c.case for name in wanted)]
    with ProcessPoolExecutor(min(14, os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        failures = dict(zip(chosen, pool.map(compile_one, chosen, chunksize=4), strict=True))
    results: dict[str, list[tuple[float, str, float, float]]] = {}
    for case, group in itertools.groupby(chosen, key=lambda c: c.case):
        rows = []
        for candidate in group:
            if failures[candidate]:
                rows.append((float("inf"), f"{candidate}: {failures[candidate]}", 0.0, 0.0))
                continue
            torch.manual_seed(0)
            call, sets, num_bytes, operations = subject(candidate, small=False)
            with torch.inference_mode():
                took = replay_time(call, sets)
            rows.append((took, str(candidate), num_bytes / took / 1e6, operations / took / 1e6))
            del sets
        results[case] = sorted(rows)
        sys.stdout.write(f"{case}\n")
        for took, name, bandwidth, rate in results[case][: options.top]:
            sys.stdout.write(f"  {took:9.2f} us {bandwidth:6.2f} TB/s {rate:7.1f} TFLOP/s  {name}\n")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
