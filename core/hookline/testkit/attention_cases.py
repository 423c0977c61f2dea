"""Passes for attention backends: a paged cache full of traps, and dense attention in float64 to compare with.

Whatever a backend must not read is NaN or belongs to somebody else: slots that nobody wrote, the sink page,
and table entries beyond a request's tokens. Slots (whole pages of them) and table rows are handed out at random.

Shape letters: T tokens of a pass, Q new tokens of one request, L all its tokens, N query heads, K key-value
heads, D head dimension, V value dimension.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hookline.batch.forward_batch import AttentionGeometry, MaskKind
from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.attention import AttentionLayerInfo

#: Columns of the request-to-slot table.
MAX_CONTEXT_LEN = 2048
#: Table rows that no request of the pass has.
_SPARE_ROWS = 3
_CPU = torch.device("cpu")

#: (prefix, new) tokens of each request.
Lengths = Sequence[tuple[int, int]]

#: Name -> lengths. Every request has one token.
DECODES: dict[str, Lengths] = {
    "decode, one": [(40, 1)],
    "decode, first token": [(0, 1)],
    "decode, equal": [(9, 1)] * 4,
    "decode, uneven": [(1, 1), (350, 1), (20, 1), (19, 1), (0, 1), (15, 1)],
}
EXTENDS: dict[str, Lengths] = {
    "extend, one": [(0, 30)],
    "extend, one after a prefix": [(17, 30)],
    "extend, one token": [(33, 1)],
    "extend, long": [(0, 300)],
    "extend, long after a prefix": [(77, 261)],
    "extend, whole blocks": [(128, 256)],
    "extend, equal": [(0, 8)] * 3,
    "extend, uneven": [(0, 3), (0, 40), (0, 2), (0, 17)],
    "extend, uneven prefixes": [(50, 3), (0, 7), (8, 8), (200, 2), (31, 1), (0, 1)],
    "extend, long and short": [(0, 200), (5, 2), (60, 150)],
}
#: Requests that extend, then requests that decode.
MIXES: dict[str, Lengths] = {
    "mixed": [(0, 12), (30, 5), (60, 1), (3, 1)],
    "mixed, long and many": [(100, 130), (300, 1), (2, 1), (0, 1), (17, 1)],
}

#: Passes of the base contract, with their mode.
PASSES: dict[str, tuple[ForwardMode, Lengths]] = {
    **{name: (ForwardMode.DECODE, lengths) for name, lengths in DECODES.items()},
    **{name: (ForwardMode.EXTEND, lengths) for name, lengths in EXTENDS.items()},
}
#: Those that show most of what can go wrong, for tests that vary something else.
SOME: dict[str, tuple[ForwardMode, Lengths]] = {
    "decode": PASSES["decode, uneven"],
    "extend": PASSES["extend, uneven prefixes"],
    "extend alone": PASSES["extend, long after a prefix"],
}


class PagedPool:
    """K and V planes of each layer, NaN until written; implements ``hookline.interfaces.attention.KVPool``."""

    def __init__(
        self, layers: Sequence[AttentionLayerInfo], num_slots: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._planes = {
            layer.layer_id: (
                torch.full((num_slots, layer.num_kv_heads, layer.head_dim), float("nan"), dtype=dtype, device=device),
                torch.full((num_slots, layer.num_kv_heads, layer.v_head_dim), float("nan"), dtype=dtype, device=device),
            )
            for layer in layers
        }

    def planes(self, layer_id: int) -> tuple[Tensor, Tensor]:
        return self._planes[layer_id]

    def replace(self, layer_id: int, k: Tensor, v: Tensor) -> None:
        """Give a layer other planes."""
        self._planes[layer_id] = k, v

    def store(self, layer_id: int, loc: Tensor, k: Tensor, v: Tensor) -> None:
        k_plane, v_plane = self._planes[layer_id]
        k_plane[loc], v_plane[loc] = k, v


@dataclass(slots=True, kw_only=True)
class AttentionCase:
    """One pass over a pool that holds the prefixes, and what every layer of it must answer."""

    geometry: AttentionGeometry
    layers: Sequence[AttentionLayerInfo]
    pool: PagedPool
    #: Of each layer, for the new tokens: q [T, N, D], k [T, K, D], v [T, K, V].
    q: list[Tensor]
    k: list[Tensor]
    v: list[Tensor]
    #: Of each layer: [T, N, V] float64, on the CPU.
    expected: list[Tensor]

    @property
    def dtype(self) -> torch.dtype:
        return self.q[0].dtype

    @property
    def device(self) -> torch.device:
        return self.q[0].device

    def store(self) -> None:
        """Write K and V of the new tokens, as ``Attention`` layers do before they call the backend."""
        for layer, k, v in zip(self.layers, self.k, self.v, strict=True):
            self.pool.store(layer.layer_id, self.geometry.out_cache_loc, k, v)

    def copy_of_pool(self) -> PagedPool:
        """A pool with the same numbers in other memory."""
        k, _ = self.pool.planes(self.layers[0].layer_id)
        pool = PagedPool(self.layers, k.shape[0], self.dtype, self.device)
        for layer in self.layers:
            k, v = self.pool.planes(layer.layer_id)
            pool.replace(layer.layer_id, k.clone(), v.clone())
        return pool

    def piece(self, index: int, first: int, new: int) -> AttentionCase:
        """Request ``index`` alone, computing only ``new`` of its new tokens from the ``first`` on.

        The pool is shared, and holds the tokens before these once the case was run.
        """
        geometry = self.geometry
        prefix = geometry.prefix_lens_cpu[index] + first
        start = sum(geometry.extend_lens_cpu[:index]) + first
        rows = slice(start, start + new)
        alone = replace(
            geometry,
            req_pool_indices=geometry.req_pool_indices[index : index + 1],
            seq_lens=torch.tensor([prefix + new], device=self.device),
            prefix_lens=torch.tensor([prefix], device=self.device),
            seq_lens_cpu=[prefix + new],
            prefix_lens_cpu=[prefix],
            extend_lens_cpu=[new],
            out_cache_loc=geometry.out_cache_loc[rows],
        )
        q, k, v, expected = (
            [tensor[rows] for tensor in tensors] for tensors in (self.q, self.k, self.v, self.expected)
        )
        return AttentionCase(geometry=alone, layers=self.layers, pool=self.pool, q=q, k=k, v=v, expected=expected)


def layer_info(
    *,
    layer_id: int = 0,
    heads: tuple[int, int] = (4, 2),
    head_dim: int = 64,
    v_head_dim: int | None = None,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> AttentionLayerInfo:
    """A layer; ``heads`` are query and key-value heads."""
    return AttentionLayerInfo(
        layer_id=layer_id,
        num_q_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=head_dim,
        v_head_dim=head_dim if v_head_dim is None else v_head_dim,
        scale=head_dim**-0.5 if scale is None else scale,
        window=window,
        softcap=softcap,
        sinks=sinks,
    )


def attention_case(
    lengths: Lengths,
    layers: Sequence[AttentionLayerInfo],
    *,
    mode: ForwardMode = ForwardMode.EXTEND,
    dtype: torch.dtype = torch.float32,
    page_size: int = 1,
    device: torch.device = _CPU,
    mask: MaskKind = MaskKind.CAUSAL,
    window: int | None = None,
    num_pages: int | None = None,
    seed: int = 0,
) -> AttentionCase:
    """Random requests of these lengths. ``num_pages`` fixes the size of the pool, else it has a few to spare."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    if num_pages is None:
        num_pages = sum(-(-(prefix + new) // page_size) for prefix, new in lengths) + 8
    # Page 0 is the sink.
    num_slots = (num_pages + 1) * page_size
    pages = rng.sample(range(1, num_pages + 1), num_pages)
    num_rows = len(lengths) + _SPARE_ROWS
    table = torch.randint(0, num_slots, (num_rows, MAX_CONTEXT_LEN), generator=generator, dtype=torch.int32)
    rows = rng.sample(range(num_rows), len(lengths))
    slots: list[Tensor] = []
    for row, (prefix, new) in zip(rows, lengths, strict=True):
        own_pages = [pages.pop() for _ in range(0, prefix + new, page_size)]
        own = [page * page_size + offset for page in own_pages for offset in range(page_size)]
        slots.append(torch.tensor(own[: prefix + new], dtype=torch.int64))
        table[row, : prefix + new] = slots[-1].to(torch.int32)
    geometry = _geometry(lengths, rows, table, slots, mode, page_size, device)
    geometry.mask, geometry.window = mask, window
    if mask is MaskKind.TREE:
        geometry.tree_mask = _tree_mask([new for _, new in lengths], rng).to(device)
    pool = PagedPool(layers, num_slots, dtype, device)
    case = AttentionCase(geometry=geometry, layers=layers, pool=pool, q=[], k=[], v=[], expected=[])
    for layer in layers:
        _add_layer(case, layer, lengths, slots, dtype, generator)
    return case


def _geometry(
    lengths: Lengths,
    rows: list[int],
    table: Tensor,
    slots: list[Tensor],
    mode: ForwardMode,
    page_size: int,
    device: torch.device,
) -> AttentionGeometry:
    prefix_lens = [prefix for prefix, _ in lengths]
    seq_lens = [prefix + new for prefix, new in lengths]
    written = [own[prefix:] for own, prefix in zip(slots, prefix_lens, strict=True)]
    return AttentionGeometry(
        mode=mode,
        req_to_token=table.to(device),
        req_pool_indices=torch.tensor(rows, dtype=torch.int64, device=device),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int64, device=device),
        prefix_lens=torch.tensor(prefix_lens, dtype=torch.int64, device=device),
        seq_lens_cpu=seq_lens,
        prefix_lens_cpu=prefix_lens,
        extend_lens_cpu=[new for _, new in lengths],
        out_cache_loc=torch.cat([torch.empty(0, dtype=torch.int64), *written]).to(device),
        page_size=page_size,
    )


def _tree_mask(extend_lens: Sequence[int], rng: random.Random) -> Tensor:
    """[T, longest extend]: each new token sees itself and its ancestors in a random tree of its request."""
    mask = torch.zeros(sum(extend_lens), max(extend_lens), dtype=torch.bool)
    start = 0
    for new in extend_lens:
        for index in range(new):
            parent = rng.randrange(-1, index) if index else -1
            if parent >= 0:
                mask[start + index] = mask[start + parent]
            mask[start + index, index] = True
        start += new
    return mask


def _add_layer(
    case: AttentionCase,
    layer: AttentionLayerInfo,
    lengths: Lengths,
    slots: list[Tensor],
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    geometry, device = case.geometry, case.geometry.seq_lens.device

    def random_heads(num_tokens: int, heads: int, dim: int) -> Tensor:
        return torch.randn(num_tokens, heads, dim, generator=generator).to(dtype)

    q_parts, k_parts, v_parts, expected = [], [], [], []
    start = 0
    for own, (prefix, new) in zip(slots, lengths, strict=True):
        q = random_heads(new, layer.num_q_heads, layer.head_dim)
        k = random_heads(prefix + new, layer.num_kv_heads, layer.head_dim)
        v = random_heads(prefix + new, layer.num_kv_heads, layer.v_head_dim)
        case.pool.store(layer.layer_id, own[:prefix].to(device), k[:prefix].to(device), v[:prefix].to(device))
        visible = visible_keys(geometry, layer, prefix, new, start)
        expected.append(dense_attention(q, k, v, layer, visible))
        q_parts.append(q)
        k_parts.append(k[prefix:])
        v_parts.append(v[prefix:])
        start += new
    case.q.append(torch.cat([random_heads(0, layer.num_q_heads, layer.head_dim), *q_parts]).to(device))
    case.k.append(torch.cat([random_heads(0, layer.num_kv_heads, layer.head_dim), *k_parts]).to(device))
    case.v.append(torch.cat([random_heads(0, layer.num_kv_heads, layer.v_head_dim), *v_parts]).to(device))
    nothing = torch.empty(0, layer.num_q_heads, layer.v_head_dim, dtype=torch.float64)
    case.expected.append(torch.cat([nothing, *expected]))


def visible_keys(geometry: AttentionGeometry, layer: AttentionLayerInfo, prefix: int, new: int, start: int) -> Tensor:
    """[Q, L]: which tokens of its request each new token sees. ``start`` is the request's first row of the pass."""
    query = torch.arange(prefix, prefix + new).unsqueeze(1)
    key = torch.arange(prefix + new)
    if geometry.mask is MaskKind.FULL:
        return torch.ones(new, prefix + new, dtype=torch.bool)
    if geometry.mask is MaskKind.TREE:
        assert geometry.tree_mask is not None
        own = geometry.tree_mask[start : start + new, :new].cpu()
        return torch.cat((torch.ones(new, prefix, dtype=torch.bool), own), dim=1)
    window = geometry.window if layer.window is None else layer.window
    causal = key <= query
    return causal if window is None else causal & (key > query - window)


def dense_attention(q: Tensor, k: Tensor, v: Tensor, layer: AttentionLayerInfo, visible: Tensor) -> Tensor:
    """The definition: [Q, N, V] float64, for one request's q [Q, N, D], k [L, K, D], v [L, K, V]."""
    group = layer.num_q_heads // layer.num_kv_heads
    k64, v64 = k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    scores = torch.einsum("qnd,lnd->nql", q.double(), k64) * layer.scale
    if layer.softcap is not None:
        scores = layer.softcap * torch.tanh(scores / layer.softcap)
    scores = scores.masked_fill(~visible, float("-inf"))
    if layer.sinks is not None:
        sinks = layer.sinks.cpu().double().view(-1, 1, 1).expand(-1, q.shape[0], 1)
        weights = torch.softmax(torch.cat((scores, sinks), -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    return torch.einsum("nql,lnd->qnd", weights, v64)
