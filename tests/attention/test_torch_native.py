"""torch_native against dense attention in float64, over a pool full of NaN where nobody wrote."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.batch.forward_batch import AttentionGeometry, MaskKind
from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.attention import AttentionBackendSpec, AttentionEnv, AttentionLayerInfo
from hookline_attention.plugin import PLUGIN, hookline_attention_backends
from hookline_attention.torch_native import TorchNativeAttention

CPU = torch.device("cpu")
MAX_LEN = 700


class Pool:
    """One layer's planes; slot 0 is the sink."""

    def __init__(self, num_slots: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> None:
        self.k = torch.full((num_slots, kv_heads, head_dim), float("nan"), dtype=dtype)
        self.v = torch.full((num_slots, kv_heads, head_dim), float("nan"), dtype=dtype)

    def planes(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.k, self.v

    def store(self, layer_id: int, loc: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        self.k[loc], self.v[loc] = k, v


@dataclass
class Case:
    """A pass over a filled pool, and what it must give."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    layer: AttentionLayerInfo
    pool: Pool
    geometry: AttentionGeometry
    expected: torch.Tensor

    def backend(self, *, deterministic: bool = False) -> TorchNativeAttention:
        env = AttentionEnv(
            device=CPU,
            dtype=self.q.dtype,
            page_size=1,
            num_q_heads=self.layer.num_q_heads,
            num_kv_heads=self.layer.num_kv_heads,
            head_dim=self.layer.head_dim,
            max_context_len=MAX_LEN,
            max_running_requests=64,
            deterministic=deterministic,
        )
        return TorchNativeAttention(env)

    def run(self, *, deterministic: bool = False, backend: TorchNativeAttention | None = None) -> torch.Tensor:
        backend = backend or self.backend(deterministic=deterministic)
        plan = backend.plan(self.geometry)
        backend.prepare(plan, self.geometry)
        with torch.inference_mode():
            first = backend.forward(self.q, self.k, self.v, self.layer, self.pool, plan)
            # A plan serves every layer of the pass.
            again = backend.forward(self.q, self.k, self.v, self.layer, self.pool, plan)
        assert torch.equal(first.nan_to_num(), again.nan_to_num())
        return first


def make_case(
    lens: Sequence[tuple[int, int]],
    *,
    heads: tuple[int, int] = (4, 2),
    head_dim: int = 64,
    dtype: torch.dtype = torch.float32,
    mask: MaskKind = MaskKind.CAUSAL,
    layer_window: int | None = None,
    window: int | None = None,
    seed: int = 0,
) -> Case:
    """``lens``: (prefix, new) tokens of each request."""
    num_q, num_kv = heads
    generator = torch.Generator().manual_seed(seed)
    rng = random.Random(seed)
    total = sum(prefix + new for prefix, new in lens)
    slots = list(range(1, total + 50))
    rng.shuffle(slots)
    pool = Pool(total + 51, num_kv, head_dim, dtype)
    # Entries beyond a request's tokens are stale: slots of others, and slots that hold NaN.
    table = torch.randint(0, total + 51, (len(lens) + 3, MAX_LEN), generator=generator, dtype=torch.int32)
    rows = rng.sample(range(len(lens) + 3), len(lens))
    q_parts, loc, expected = [], [], []
    for row, (prefix, new) in zip(rows, lens, strict=True):
        mine = [slots.pop() for _ in range(prefix + new)]
        table[row, : prefix + new] = torch.tensor(mine, dtype=torch.int32)
        k = torch.randn(prefix + new, num_kv, head_dim, generator=generator).to(dtype)
        v = torch.randn(prefix + new, num_kv, head_dim, generator=generator).to(dtype)
        pool.k[mine], pool.v[mine] = k, v
        q = torch.randn(new, num_q, head_dim, generator=generator).to(dtype)
        q_parts.append(q)
        loc += mine[prefix:]
        expected.append(dense(q, k, v, prefix, mask, window if layer_window is None else layer_window))
    seq_lens = [prefix + new for prefix, new in lens]
    geometry = AttentionGeometry(
        mode=ForwardMode.DECODE if all(new == 1 for _, new in lens) else ForwardMode.EXTEND,
        req_to_token=table,
        req_pool_indices=torch.tensor(rows),
        seq_lens=torch.tensor(seq_lens),
        prefix_lens=torch.tensor([prefix for prefix, _ in lens]),
        seq_lens_cpu=seq_lens,
        prefix_lens_cpu=[prefix for prefix, _ in lens],
        extend_lens_cpu=[new for _, new in lens],
        out_cache_loc=torch.tensor(loc, dtype=torch.int64),
        page_size=1,
        mask=mask,
        window=window,
    )
    info = AttentionLayerInfo(
        layer_id=0,
        num_q_heads=num_q,
        num_kv_heads=num_kv,
        head_dim=head_dim,
        v_head_dim=head_dim,
        scale=head_dim**-0.5,
        window=layer_window,
    )
    q = torch.cat(q_parts)
    k, v = pool.k[geometry.out_cache_loc], pool.v[geometry.out_cache_loc]
    return Case(q, k, v, info, pool, geometry, torch.cat(expected))


def dense(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, prefix: int, mask: MaskKind, window: int | None
) -> torch.Tensor:
    """The definition, in float64: [new, N, D]."""
    group = q.shape[1] // k.shape[1]
    k64, v64 = k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    scores = torch.einsum("qnd,knd->nqk", q.double(), k64) * q.shape[-1] ** -0.5
    query = torch.arange(prefix, prefix + q.shape[0]).unsqueeze(1)
    key = torch.arange(k.shape[0])
    allowed = torch.ones(q.shape[0], k.shape[0], dtype=torch.bool) if mask is MaskKind.FULL else key <= query
    if window is not None:
        allowed &= key > query - window
    weights = torch.softmax(scores.masked_fill(~allowed, float("-inf")), -1)
    return torch.einsum("nqk,knd->qnd", weights, v64)


def assert_exact(case: Case, got: torch.Tensor) -> None:
    tolerance = 2e-2 if got.dtype == torch.bfloat16 else 1e-5
    assert got.shape == case.q.shape
    assert got.dtype == case.q.dtype
    torch.testing.assert_close(got.double(), case.expected, atol=tolerance, rtol=tolerance)


#: Name -> (prefix, new) of each request.
PASSES: dict[str, list[tuple[int, int]]] = {
    "decode, one": [(40, 1)],
    "decode, first token": [(0, 1)],
    "decode, equal": [(9, 1)] * 4,
    "decode, uneven": [(1, 1), (350, 1), (20, 1), (19, 1), (0, 1)],
    "extend, one": [(0, 30)],
    "extend, one after a prefix": [(17, 30)],
    "extend, long": [(0, 300)],
    "extend, long after a prefix": [(77, 261)],
    "extend, several blocks of the same size": [(128, 256)],
    "extend, equal": [(0, 8)] * 3,
    "extend, uneven": [(0, 3), (0, 40), (0, 2), (0, 17)],
    "extend, uneven prefixes": [(50, 3), (0, 7), (8, 8), (200, 2)],
    "extend, long and short": [(0, 300), (5, 2), (100, 150)],
    "mixed": [(0, 12), (30, 5), (60, 1), (3, 1)],
    "mixed, decode first": [(60, 1), (0, 12), (2, 1)],
}


def test_hook_hookline_attention_backends() -> None:
    (spec,) = hookline_attention_backends()
    assert isinstance(spec, AttentionBackendSpec)
    assert spec.kind in PLUGIN.provides
    assert spec.target == f"{TorchNativeAttention.__module__}:{TorchNativeAttention.__name__}"


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", PASSES)
def test_every_kind_of_pass(name: str, deterministic: bool) -> None:
    case = make_case(PASSES[name])
    assert_exact(case, case.run(deterministic=deterministic))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("heads", [(2, 2), (8, 2), (8, 1)])
@pytest.mark.parametrize("name", ["decode, uneven", "extend, uneven prefixes", "extend, one after a prefix"])
def test_head_counts_and_sizes(name: str, heads: tuple[int, int], head_dim: int, dtype: torch.dtype) -> None:
    case = make_case(PASSES[name], heads=heads, head_dim=head_dim, dtype=dtype)
    assert_exact(case, case.run())


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("window", [1, 5, 64, 1000])
@pytest.mark.parametrize("name", PASSES)
def test_a_window_of_w_sees_itself_and_the_w_minus_1_tokens_before(name: str, window: int, deterministic: bool) -> None:
    case = make_case(PASSES[name], layer_window=window)
    assert_exact(case, case.run(deterministic=deterministic))


def test_the_window_of_a_pass_holds_for_layers_without_their_own() -> None:
    case = make_case(PASSES["mixed"], mask=MaskKind.WINDOW, window=4)
    assert_exact(case, case.run())


def test_layers_with_different_windows_share_a_plan() -> None:
    wide, narrow = make_case(PASSES["mixed"]), make_case(PASSES["mixed"], layer_window=3)
    backend = wide.backend()
    plan = backend.plan(wide.geometry)
    for case in (wide, narrow, wide):
        assert_exact(case, backend.forward(case.q, case.k, case.v, case.layer, case.pool, plan))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", ["extend, one", "extend, equal", "extend, uneven", "extend, long"])
def test_a_full_mask_sees_the_whole_sequence(name: str, deterministic: bool) -> None:
    case = make_case(PASSES[name], mask=MaskKind.FULL)
    assert_exact(case, case.run(deterministic=deterministic))


def test_a_tree_mask_is_refused() -> None:
    case = make_case(PASSES["extend, one"], mask=MaskKind.TREE)
    with pytest.raises(ValueError, match="tree"):
        case.run()


def test_a_request_without_new_tokens_takes_no_rows() -> None:
    case = make_case([(5, 0), (3, 2), (9, 0), (4, 1)])
    assert_exact(case, case.run())


def test_an_empty_pass_gives_no_rows() -> None:
    case = make_case([(5, 1)])
    geometry = case.geometry
    geometry.extend_lens_cpu, geometry.seq_lens_cpu, geometry.prefix_lens_cpu = [], [], []
    case.q = case.q[:0]
    assert case.run().shape == (0, 4, 64)


def test_one_backend_serves_passes_of_all_sizes() -> None:
    cases = [make_case(lens, seed=index) for index, lens in enumerate(PASSES.values())]
    backend = cases[0].backend()
    for case in [*cases, *reversed(cases)]:
        assert_exact(case, case.run(backend=backend))


def test_queries_that_are_views_of_a_fused_projection() -> None:
    case = make_case(PASSES["decode, uneven"])
    fused = torch.cat((case.q, case.k, case.v), dim=1)
    case.q = fused[:, :4]
    assert_exact(case, case.run())


def test_one_bad_request_spoils_no_other() -> None:
    case = make_case([(10, 1), (20, 1), (5, 3)])
    clean = case.run()
    row = case.geometry.req_pool_indices[1]
    case.pool.k[case.geometry.req_to_token[row, 3].long()] = float("nan")
    got = case.run()
    assert torch.isnan(got[1]).all()
    torch.testing.assert_close(got[[0, 2, 3, 4]], clean[[0, 2, 3, 4]])


def test_slots_whose_flat_offset_exceeds_31_bits() -> None:
    case = make_case([(10, 1), (3, 4)], dtype=torch.bfloat16)
    # Never written as a whole, so the system backs only the pages that hold these slots.
    far = [torch.empty(2**31 // (2 * 64) + 100, 2, 64, dtype=torch.bfloat16) for _ in range(2)]
    shift = far[0].shape[0] - case.pool.k.shape[0]
    for plane, near in zip(far, (case.pool.k, case.pool.v), strict=True):
        plane[shift:] = near
    case.pool.k, case.pool.v = far
    case.geometry.req_to_token = case.geometry.req_to_token + shift
    assert int(case.geometry.req_to_token.max()) * 128 >= 2**31
    assert_exact(case, case.run())


@settings(max_examples=30, deadline=None)
@given(
    lens=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=6),
    window=st.none() | st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_any_pass(lens: list[tuple[int, int]], window: int | None, seed: int) -> None:
    case = make_case(lens, layer_window=window, head_dim=16, seed=seed)
    assert_exact(case, case.run())


@pytest.mark.parametrize("window", [None, 6])
def test_deterministic_numbers_do_not_depend_on_batch_or_chunks(window: int | None) -> None:
    case = make_case([(0, 40), (31, 9), (12, 1)], layer_window=window)
    together = case.run(deterministic=True)
    start = 0
    for index, (prefix, new) in enumerate([(0, 40), (31, 9), (12, 1)]):
        for cut in (1, 7, new):
            parts = [
                _alone(case, index, prefix + first, min(cut, new - first), start + first)
                for first in range(0, new, cut)
            ]
            assert torch.equal(torch.cat(parts), together[start : start + new])
        start += new


def _alone(case: Case, index: int, prefix: int, new: int, first_row: int) -> torch.Tensor:
    """A piece of one request of the case, run by itself."""
    rows = slice(first_row, first_row + new)
    geometry = AttentionGeometry(
        mode=ForwardMode.EXTEND,
        req_to_token=case.geometry.req_to_token,
        req_pool_indices=case.geometry.req_pool_indices[index : index + 1],
        seq_lens=torch.tensor([prefix + new]),
        prefix_lens=torch.tensor([prefix]),
        seq_lens_cpu=[prefix + new],
        prefix_lens_cpu=[prefix],
        extend_lens_cpu=[new],
        out_cache_loc=case.geometry.out_cache_loc[rows],
        page_size=1,
    )
    piece = Case(case.q[rows], case.k[rows], case.v[rows], case.layer, case.pool, geometry, case.expected[rows])
    return piece.run(deterministic=True)
