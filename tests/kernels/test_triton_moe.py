"""The experts' kernels in Triton's interpreter: every kind of tile, the sort by expert, tables and the tuner."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hookline.layers.ops import FUSED_MOE, RMS_NORM, TOPK_SOFTMAX, Ops
from hookline_kernels import tune
from hookline_kernels.triton_moe import measuring, tiles
from hookline_kernels.triton_moe.align import align
from hookline_kernels.triton_moe.candidates import grouped_candidates
from hookline_kernels.triton_moe.experts import fused_moe, fused_moe_deterministic, grouped_moe, tiled_moe
from hookline_kernels.triton_moe.routing import add_norm_route, topk_softmax
from hookline_kernels.triton_moe.tiles import ExpertsShape, FewTile, GroupedTile, Tiles, default_grouped, tiles_for

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU here"),
    pytest.mark.filterwarnings("ignore:(overflow|invalid value|All-NaN slice) encountered:RuntimeWarning"),
]

MoEArguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def arguments(
    tokens: int,
    *,
    experts: int = 5,
    hidden: int = 48,
    width: int = 24,
    top_k: int = 2,
    dtype: torch.dtype = torch.float32,
) -> MoEArguments:
    draw = torch.Generator().manual_seed(tokens)
    return (
        torch.randn(tokens, hidden, generator=draw).to(dtype),
        (torch.randn(experts, 2 * width, hidden, generator=draw) * hidden**-0.5).to(dtype),
        (torch.randn(experts, hidden, width, generator=draw) * width**-0.5).to(dtype),
        torch.rand(tokens, top_k, generator=draw),
        torch.rand(tokens, experts, generator=draw).topk(top_k).indices,
    )


def check(got: Tensor, given: MoEArguments) -> None:
    expected = Ops().request(FUSED_MOE)(*(value.float() if value.is_floating_point() else value for value in given))
    tolerance = 1e-5 if got.dtype is torch.float32 else 4e-3
    torch.testing.assert_close(got.float(), expected, rtol=tolerance, atol=tolerance)


SMALL = GroupedTile(rows=16, columns=16, depth=32, num_warps=4, num_stages=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("tma", [False, True])
@pytest.mark.parametrize("per_sm", [0, 2])
def test_every_kind_of_grouped_tile(per_sm: int, tma: bool, swap: bool, dtype: torch.dtype) -> None:
    given = arguments(37, dtype=dtype)
    given[4][3:6, 0] = -1
    tile = replace(SMALL, swap=swap, weights_tma=tma, rows_tma=tma, per_sm=per_sm)
    check(grouped_moe(*given, up=tile, down=tile), given)


@pytest.mark.parametrize("last", [1, 16, 17, 31, 32])
def test_half_tails(last: int) -> None:
    given = arguments(32 + last, top_k=1)
    given[4][:] = 2
    tile = replace(SMALL, rows=32, half_tail=True, weights_tma=True)
    check(grouped_moe(*given, up=tile, down=tile), given)


@pytest.mark.parametrize("tma", [False, True])
def test_weights_whose_rows_are_no_whole_16_bytes_need_no_descriptor(tma: bool) -> None:
    given = arguments(5, hidden=33, width=7)
    tile = replace(SMALL, weights_tma=tma, rows_tma=tma)
    check(grouped_moe(*given, up=tile, down=tile), given)


@pytest.mark.parametrize(
    ("few", "width"),
    [
        (FewTile(up_rows=2, down_rows=1), 24),
        (FewTile(up_rows=8, down_rows=4), 24),
        (FewTile(up_rows=64, down_rows=64), 24),
        (FewTile(up_rows=16, down_rows=8), 192),
    ],
    ids=str,
)
def test_every_kind_of_few_tile(few: FewTile, width: int) -> None:
    given = arguments(3, width=width, top_k=3)
    given[4][1, 1] = -1
    check(tiled_moe(*given, tiles=Tiles(few_pairs=9, few=few, up=SMALL, down=SMALL)), given)


@pytest.mark.parametrize("pairs", [1, 64, 65, 300])
@pytest.mark.parametrize("experts", [3, 9, 70])
def test_pairs_are_sorted_by_expert_in_their_order(pairs: int, experts: int) -> None:
    ids = torch.randint(-1, experts, (pairs,), generator=torch.Generator().manual_seed(pairs))
    order, counts = align(ids, experts, segment=64)
    assert counts.tolist() == [int((ids == expert).sum()) for expert in range(experts)]
    expected = torch.argsort(torch.where(ids < 0, experts, ids), stable=True)[: int(counts.sum())]
    assert order[: len(expected)].tolist() == expected.tolist()


def test_many_segments_are_counted_in_turns() -> None:
    ids = torch.arange(64 * 34) % 3
    order, counts = align(ids, 3, segment=64)
    assert order.tolist() == ids.argsort(stable=True).tolist()
    assert counts.tolist() == ids.bincount().tolist()


def test_a_token_has_the_same_bits_alone_and_in_any_batch() -> None:
    given = arguments(70)
    x, w13, w2, weights, ids = given
    together = fused_moe_deterministic(*given)
    check(together, given)
    for token in (0, 33, 69):
        at = slice(token, token + 1)
        assert torch.equal(fused_moe_deterministic(x[at], w13, w2, weights[at], ids[at])[0], together[token])
    assert fused_moe_deterministic(x[:0], w13, w2, weights[:0], ids[:0]).shape == (0, 48)


def test_a_row_that_is_no_number_spoils_no_other_row_of_its_tile() -> None:
    given = arguments(20)
    clean = grouped_moe(*given, up=SMALL, down=SMALL)
    given[0][7] = float("nan")
    spoiled = grouped_moe(*given, up=SMALL, down=SMALL)
    others = [row for row in range(20) if row != 7]
    assert torch.equal(spoiled[others], clean[others])
    assert bool(spoiled[7].isnan().all())


@pytest.mark.parametrize("tokens", [1, 3, 70])
@pytest.mark.parametrize("renormalize", [True, False])
def test_places_of_all_experts_at_once(tokens: int, renormalize: bool) -> None:
    logits = torch.randn(tokens, 37, generator=torch.Generator().manual_seed(tokens))
    weights, ids = topk_softmax(logits, 5, renormalize)
    expected_weights, expected_ids = Ops().request(TOPK_SOFTMAX)(logits, 5, renormalize)
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(weights, expected_weights)


def test_a_token_without_numbers_still_gets_experts_that_exist() -> None:
    logits = torch.full((2, 6), float("nan"))
    logits[1, 2] = 1.0
    weights, ids = topk_softmax(logits, 3, True)
    assert all(len(set(row)) == 3 and set(row) <= set(range(6)) for row in ids.tolist())
    assert bool(weights[0].isnan().all())


# --- tables ---


def test_the_nearest_measured_number_of_pairs_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ExpertsShape(experts=4, width=8, hidden=16, dtype="bfloat16")
    wide, narrow = tile_dict(columns=256), tile_dict(columns=32)
    table = [
        {
            "shape": {"experts": 4, "width": 8, "hidden": 16, "dtype": "bfloat16"},
            "few_pairs": 24,
            "few": {"up_rows": 4},
            "grouped": [{"pairs": 8, "up": narrow, "down": narrow}, {"pairs": 100, "up": wide, "down": narrow}],
        }
    ]
    monkeypatch.setattr(tiles, "_table", lambda name: table)
    tiles_for.cache_clear()
    assert tiles_for("a card", shape, 20).up.columns == 32
    assert tiles_for("a card", shape, 99).up.columns == 256
    assert tiles_for("a card", shape, 1).few == FewTile(up_rows=4)
    assert tiles_for("a card", shape, 1).few_pairs == 24
    other = replace(shape, width=9)
    assert tiles_for("a card", other, 20).up == default_grouped(5.0, "bfloat16")[0]
    tiles_for.cache_clear()


def tile_dict(columns: int) -> dict[str, int]:
    return {"rows": 16, "columns": columns, "depth": 64, "num_warps": 4, "num_stages": 3}


def test_shipped_tables_are_whole() -> None:
    found = [
        file for file in files("hookline_kernels.triton_moe").joinpath("tables").iterdir() if file.name != "README.md"
    ]
    for file in found:
        name = file.name.removesuffix(".json").replace("_", " ")
        assert tiles.table_name(name) == file.name
        entries = tiles._table(name)
        assert entries
        for entry in entries:
            for pairs in (1, 8, 100, 10**6):
                chosen = tiles_for(name, ExpertsShape(**entry["shape"]), pairs)
                assert chosen.up.rows >= 16
                assert chosen.down.num_stages >= 1


@pytest.mark.parametrize("mean", [0.06, 4.0, 16.0, 64.0, 1024.0])
@pytest.mark.parametrize("is_up", [True, False])
def test_candidates_are_several_and_differ(mean: float, is_up: bool) -> None:
    found = grouped_candidates(mean, is_up)
    assert len(found) == len(set(found)) > 5


# --- the tuner ---


def test_what_is_timed_is_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "replay_time", lambda call, routings: 1.0)
    torch.manual_seed(0)
    shape = ExpertsShape(experts=4, width=24, hidden=32, dtype="float32")
    layer = measuring.Layer.random(shape, 2, torch.device("cpu"))
    bench = measuring.Bench(layer, 3)
    few = FewTile(up_rows=8, down_rows=8)
    for is_up in (True, False):
        assert bench.few(few, is_up).error < 1e-5
        assert bench.grouped(SMALL, is_up).error < 1e-5
    assert bench.whole(fused_moe).error < 1e-5
    assert bench.grouped(SMALL, True).digest == bench.grouped(SMALL, True).digest
    layer.w13.zero_()
    assert not bench.grouped(SMALL, True).error < 1e-5


# --- routing ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("has_residual", [True, False])
def test_norm_and_router_in_one_launch(has_residual: bool, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    wide = torch.randn(3, 60, generator=draw).to(dtype)
    x, residual = wide[:, :36], torch.randn(3, 36, generator=draw).to(dtype)
    norm, router = torch.randn(36, generator=draw).to(dtype), torch.randn(10, 36, generator=draw).to(dtype)
    given = residual if has_residual else None
    normed, total, weights, ids = add_norm_route(x, given, norm, 1e-6, router, 4, True)
    reference = Ops()
    expected_total = x + residual if has_residual else x
    expected_normed = reference.request(RMS_NORM)(expected_total, norm, 1e-6)
    expected_weights, expected_ids = reference.request(TOPK_SOFTMAX)(
        expected_normed.float() @ router.float().T, 4, True
    )
    assert torch.equal(total, expected_total)
    torch.testing.assert_close(normed, expected_normed, rtol=2e-3, atol=2e-3)
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-2, atol=1e-3)


def test_routing_no_token() -> None:
    normed, total, weights, ids = add_norm_route(
        torch.zeros(0, 8), torch.zeros(0, 8), torch.ones(8), 1e-6, torch.ones(4, 8), 2, True
    )
    assert normed.shape == total.shape == (0, 8)
    assert weights.shape == ids.shape == (0, 2)


def test_a_table_keeps_what_was_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "a_card.json"
    first = tune.Tuning("qwen3-30b-a3b", "bfloat16", [1, 8], 0.0)
    first._grouped = {1: (SMALL, SMALL), 8: (SMALL, SMALL)}
    first._few, first._few_wins = {1: FewTile(up_rows=4)}, {1: True, 8: False}
    tune.write(path, first)
    again = tune.Tuning("qwen3-30b-a3b", "bfloat16", [8, 64], 0.0)
    wide = replace(SMALL, columns=128)
    again._grouped = {8: (wide, SMALL), 64: (wide, wide)}
    tune.write(path, again)
    other = tune.Tuning("qwen3-235b-a22b", "bfloat16", [1], 0.0)
    tune.write(path, other)
    entry, another = json.loads(path.read_text())
    assert [one["pairs"] for one in entry["grouped"]] == [8, 64, 512]
    assert [one["up"]["columns"] for one in entry["grouped"]] == [16, 128, 128]
    assert (entry["few_pairs"], entry["few"]["up_rows"]) == (8, 4)
    assert (another["few_pairs"], another["grouped"]) == (0, [])
