"""Arguments for every op of core: odd sizes, no tokens, views with strides, numbers near the ends of a dtype.

The last dimension of a view is always contiguous, as it is in an engine; other strides are any. Shape letters as
in ``hookline.layers.ops``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Draw:
    """Random tensors of one dtype on one device. The numbers are the same everywhere."""

    dtype: torch.dtype
    device: torch.device
    generator: torch.Generator

    @classmethod
    def seeded(cls, dtype: torch.dtype, device: torch.device, seed: int) -> Draw:
        return cls(dtype, device, torch.Generator().manual_seed(seed))

    def randn(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=self.generator) * scale).to(self.device, self.dtype)

    def full(self, *shape: int, value: float = 0.0) -> Tensor:
        return torch.full(shape, value, dtype=self.dtype, device=self.device)

    def rotation(self, num_tokens: int, head_dim: int) -> tuple[Tensor, Tensor]:
        """cos and sin [T, 1, D] as ``RotaryEmbedding`` gives them: views of one table row each."""
        angles = torch.randn(num_tokens, head_dim // 2, generator=self.generator) * 3
        cos, sin = angles.cos(), angles.sin()
        rows = torch.cat((cos, cos, -sin, sin), -1).unsqueeze(1).to(self.device, self.dtype)
        return rows[..., :head_dim], rows[..., head_dim:]

    def logits(self, num_tokens: int, experts: int, step: float = 0.25) -> Tensor:
        """[T, E] without equal ones in a row: which of equal experts is taken is nobody's promise."""
        order = torch.randn(num_tokens, experts, generator=self.generator).argsort(-1)
        return (order * step).to(self.device, self.dtype)

    def rope_qkv(self, num_tokens: int, head_dim: int, num_q: int, num_kv: int, padding: int = 0) -> tuple[Any, ...]:
        """Arguments of ``rope_qkv``; the projection has ``padding`` more columns, of which it is a view."""
        width = (num_q + 2 * num_kv) * head_dim
        cos, sin = self.rotation(num_tokens, head_dim)
        return self.randn(num_tokens, width + padding)[:, :width], cos, sin, num_q, num_kv

    def qk_norm_rope(self, *sizes: int, scale: float = 1.0) -> tuple[Any, ...]:
        """Arguments of ``qk_norm_rope``, from those of ``rope_qkv``."""
        qkv, cos, sin, num_q, num_kv = self.rope_qkv(*sizes)
        return qkv * scale, self.randn(num_q + num_kv, sizes[1]), EPS, cos, sin, num_q, num_kv

    def store(self, rope: tuple[Any, ...], num_kv: int, head_dim: int) -> tuple[Any, ...]:
        """Arguments of ``rope_store`` or ``qk_norm_rope_store``, from those of the op without a store: planes with more
        slots than tokens, and a slot for each token, in no order."""
        tokens = rope[0].shape[0]
        planes = [self.full(2 * tokens + 3, num_kv, head_dim) for _ in range(2)]
        slots = torch.randperm(2 * tokens + 3, generator=self.generator)[:tokens].to(self.device)
        return *rope, *planes, slots

    def add_norm(self, num_tokens: int, hidden: int, *weights: Tensor | None, padding: int = 0) -> tuple[Any, ...]:
        """Arguments of ``add_norm_linear`` and ``add_norm_gated``."""
        x, residual = (self.randn(num_tokens, hidden + padding)[:, :hidden] for _ in range(2))
        return x, residual, self.randn(hidden), EPS, *weights

    def add_norm_route(
        self, num_tokens: int, *, experts: int = 6, hidden: int = 32, top_k: int = 2, padding: int = 0
    ) -> tuple[Any, ...]:
        """Arguments of ``add_norm_route``. Logits of a token differ by powers of two: rounding changes no choice."""
        direction = self.randn(hidden, scale=hidden**-0.5)
        signs = torch.tensor([1.0, -1.0], dtype=self.dtype, device=self.device)
        rows = [direction * signs[expert % 2] * 2.0 ** -(expert // 2) for expert in range(experts)]
        return *self.add_norm(num_tokens, hidden, torch.stack(rows), padding=padding), top_k, True

    def moe(
        self,
        num_tokens: int,
        *,
        experts: int = 6,
        hidden: int = 32,
        width: int = 16,
        top_k: int = 2,
        ids: list[list[int]] | None = None,
        padding: int = 0,
    ) -> tuple[Any, ...]:
        """Arguments of ``fused_moe``; ``ids`` of each token are random unless given."""
        if ids is None:
            chosen = torch.randn(num_tokens, experts, generator=self.generator).topk(top_k).indices
        else:
            chosen = torch.tensor(ids, dtype=torch.int64)
        weights = torch.softmax(torch.randn(num_tokens, chosen.shape[1], generator=self.generator), -1)
        return (
            self.randn(num_tokens, hidden + padding)[:, :hidden],
            self.randn(experts, 2 * width, hidden, scale=hidden**-0.5),
            self.randn(experts, hidden, width, scale=width**-0.5),
            weights.to(self.device),
            chosen.to(self.device),
        )

    def masks(self, num_rows: int, vocab_size: int, rows: list[int], *, padding: int = 0) -> tuple[Any, ...]:
        """Arguments of ``apply_bitmask``: random masks, of which the first allows nothing."""
        words = torch.randint(-(2**31), 2**31, (len(rows), -(-vocab_size // 32)), generator=self.generator)
        words[:1] = 0
        return (
            self.randn(num_rows, vocab_size + padding)[:, :vocab_size],
            torch.tensor(rows, dtype=torch.int64, device=self.device),
            words.to(self.device, torch.int32),
        )

    def sampling(
        self,
        num_rows: int,
        vocab_size: int,
        *,
        rows: list[int] | None = None,
        top_k: list[int] | None = None,
        top_p: list[float] | None = None,
        min_p: list[float] | None = None,
        scale: float = 3.0,
        padding: int = 0,
    ) -> tuple[Any, ...]:
        """Arguments of ``sample_tokens``; filters are given for each drawn row."""
        logits = self.randn(num_rows, vocab_size + padding, scale=scale)[:, :vocab_size]
        count = num_rows if rows is None else len(rows)

        def column(values: list[Any] | None, dtype: torch.dtype) -> Tensor | None:
            return None if values is None else torch.tensor(values, dtype=dtype, device=self.device)

        numbers = torch.rand(2, count, generator=self.generator, dtype=torch.float64).to(self.device)
        finite = [k for k in top_k or [] if k < vocab_size]
        is_open = any(p < 1 and (top_k is None or top_k[i] >= vocab_size) for i, p in enumerate(top_p or []))
        best = logits.float().amax(-1) if vocab_size else logits.new_zeros(num_rows)
        return (
            logits,
            best,
            column(rows, torch.int64),
            0.5 + numbers[0],
            column(top_k, torch.int64),
            column(top_p, torch.float64),
            column(min_p, torch.float64),
            numbers[1],
            vocab_size if is_open else max(finite, default=0),
        )


#: Op -> name of the case -> its arguments.
OP_CASES: Mapping[str, Mapping[str, Callable[[Draw], tuple[Any, ...]]]] = {
    "linear": {
        "no tokens": lambda d: (d.randn(0, 24), d.randn(40, 24), None),
        "one token": lambda d: (d.randn(1, 24), d.randn(17, 24), d.randn(17)),
        "odd sizes": lambda d: (d.randn(7, 33), d.randn(5, 33), None),
        "many tokens": lambda d: (d.randn(65, 128), d.randn(96, 128), d.randn(96)),
        "a view": lambda d: (d.randn(9, 70)[::2, 3:36], d.randn(50, 33), None),
    },
    "logits": {
        "no rows": lambda d: (d.randn(0, 24), d.randn(40, 24)),
        "one token": lambda d: (d.randn(1, 24), d.randn(17, 24)),
        "odd sizes": lambda d: (d.randn(3, 33), d.randn(5, 33)),
        "many tokens": lambda d: (d.randn(65, 128), d.randn(96, 128)),
        "a view": lambda d: (d.randn(9, 70)[::2, 3:36], d.randn(50, 33)),
    },
    "rms_norm": {
        "no tokens": lambda d: (d.randn(0, 32), d.randn(32), EPS),
        "one token": lambda d: (d.randn(1, 32), d.randn(32), EPS),
        "odd sizes": lambda d: (d.randn(5, 17), d.randn(17), EPS),
        "wide": lambda d: (d.randn(3, 1000), d.randn(1000), 1e-5),
        "a view of rows": lambda d: (d.randn(9, 50)[::2, 1:34], d.randn(33), EPS),
        "heads": lambda d: (d.randn(7, 3, 16), d.randn(16), EPS),
        "heads with a weight each": lambda d: (d.randn(7, 3, 16), d.randn(3, 16), EPS),
        "no heads": lambda d: (d.randn(0, 3, 16), d.randn(3, 16), EPS),
        "a view of heads": lambda d: (d.randn(6, 10, 16)[:, 2:7], d.randn(5, 16), EPS),
        "zeros": lambda d: (d.full(2, 64), d.randn(64), EPS),
        "small numbers": lambda d: (d.randn(3, 64, scale=1e-3), d.randn(64), 1e-3),
        "squares beyond half precision": lambda d: (d.randn(3, 64, scale=600.0), d.randn(64), EPS),
    },
    "fused_add_rms_norm": {
        "no tokens": lambda d: (d.randn(0, 32), d.randn(0, 32), d.randn(32), EPS),
        "one token": lambda d: (d.randn(1, 32), d.randn(1, 32), d.randn(32), EPS),
        "odd sizes": lambda d: (d.randn(5, 17), d.randn(5, 17), d.randn(17), EPS),
        "wide": lambda d: (d.randn(3, 1000), d.randn(3, 1000), d.randn(1000), 1e-5),
        "views": lambda d: (d.randn(9, 50)[::2, 1:34], d.randn(5, 40)[:, :33], d.randn(33), EPS),
        "squares beyond half precision": lambda d: (d.randn(3, 64, scale=500.0), d.randn(3, 64), d.randn(64), EPS),
    },
    "silu_and_mul": {
        "no tokens": lambda d: (d.randn(0, 24),),
        "one token": lambda d: (d.randn(1, 24),),
        "odd sizes": lambda d: (d.randn(9, 34),),
        "wide": lambda d: (d.randn(3, 2600),),
        "a view": lambda d: (d.randn(9, 60)[::2, 5:39],),
        "gates beyond half precision's exponents": lambda d: (d.randn(5, 34, scale=60.0),),
    },
    "rotary": {
        "no tokens": lambda d: (d.randn(0, 5, 32), *d.rotation(0, 32)),
        "one token": lambda d: (d.randn(1, 5, 32), *d.rotation(1, 32)),
        "odd sizes": lambda d: (d.randn(7, 3, 10), *d.rotation(7, 10)),
        "not a power of two": lambda d: (d.randn(4, 6, 80), *d.rotation(4, 80)),
        "a view of heads": lambda d: (d.randn(9, 8, 32)[:, 1:6], *d.rotation(9, 32)),
    },
    "rope_qkv": {
        "no tokens": lambda d: d.rope_qkv(0, 16, 4, 2),
        "one token": lambda d: d.rope_qkv(1, 16, 4, 2),
        "odd sizes": lambda d: d.rope_qkv(7, 10, 3, 1),
        "not a power of two": lambda d: d.rope_qkv(5, 80, 6, 2),
        "a head for each": lambda d: d.rope_qkv(5, 64, 4, 4),
        "a view": lambda d: d.rope_qkv(9, 16, 4, 2, 24),
    },
    "qk_norm_rope": {
        "no tokens": lambda d: d.qk_norm_rope(0, 16, 4, 2),
        "one token": lambda d: d.qk_norm_rope(1, 16, 4, 2),
        "odd sizes": lambda d: d.qk_norm_rope(7, 10, 3, 1),
        "not a power of two": lambda d: d.qk_norm_rope(5, 80, 6, 2),
        "a head for each": lambda d: d.qk_norm_rope(5, 64, 4, 4),
        "a view": lambda d: d.qk_norm_rope(9, 16, 4, 2, 24),
        "squares beyond half precision": lambda d: d.qk_norm_rope(3, 64, 4, 2, scale=600.0),
    },
    "rope_store": {
        "no tokens": lambda d: d.store(d.rope_qkv(0, 16, 4, 2), 2, 16),
        "one token": lambda d: d.store(d.rope_qkv(1, 16, 4, 2), 2, 16),
        "odd sizes": lambda d: d.store(d.rope_qkv(7, 10, 3, 1), 1, 10),
        "not a power of two": lambda d: d.store(d.rope_qkv(5, 80, 6, 2), 2, 80),
        "a view": lambda d: d.store(d.rope_qkv(9, 16, 4, 2, 24), 2, 16),
    },
    "qk_norm_rope_store": {
        "no tokens": lambda d: d.store(d.qk_norm_rope(0, 16, 4, 2), 2, 16),
        "one token": lambda d: d.store(d.qk_norm_rope(1, 16, 4, 2), 2, 16),
        "odd sizes": lambda d: d.store(d.qk_norm_rope(7, 10, 3, 1), 1, 10),
        "not a power of two": lambda d: d.store(d.qk_norm_rope(5, 80, 6, 2), 2, 80),
        "a head for each": lambda d: d.store(d.qk_norm_rope(5, 64, 4, 4), 4, 64),
        "a view": lambda d: d.store(d.qk_norm_rope(9, 16, 4, 2, 24), 2, 16),
        "squares beyond half precision": lambda d: d.store(d.qk_norm_rope(3, 64, 4, 2, scale=600.0), 2, 64),
    },
    "add_norm_linear": {
        "no tokens": lambda d: d.add_norm(0, 24, d.randn(40, 24), None),
        "one token": lambda d: d.add_norm(1, 24, d.randn(17, 24), d.randn(17)),
        "no residual": lambda d: (d.randn(2, 24), None, d.randn(24), EPS, d.randn(17, 24), None),
        "odd sizes": lambda d: d.add_norm(3, 33, d.randn(5, 33), None),
        "wide": lambda d: d.add_norm(2, 1500, d.randn(9, 1500), None),
        "many tokens": lambda d: d.add_norm(65, 128, d.randn(96, 128), d.randn(96)),
        "a view": lambda d: d.add_norm(4, 33, d.randn(50, 33), None, padding=7),
    },
    "add_norm_gated": {
        "no tokens": lambda d: d.add_norm(0, 24, d.randn(40, 24)),
        "one token": lambda d: d.add_norm(1, 24, d.randn(34, 24)),
        "no residual": lambda d: (d.randn(2, 24), None, d.randn(24), EPS, d.randn(34, 24)),
        "odd sizes": lambda d: d.add_norm(3, 33, d.randn(10, 33)),
        "wide": lambda d: d.add_norm(2, 1500, d.randn(18, 1500)),
        "many tokens": lambda d: d.add_norm(65, 128, d.randn(96, 128)),
        "a view": lambda d: d.add_norm(4, 33, d.randn(50, 33), padding=7),
    },
    "topk_softmax": {
        "no tokens": lambda d: (d.logits(0, 40), 4, True),
        "one token": lambda d: (d.logits(1, 40), 4, True),
        "odd sizes": lambda d: (d.logits(7, 13), 3, True),
        "not renormalised": lambda d: (d.logits(33, 40), 4, False),
        "renormalised": lambda d: (d.logits(33, 40), 4, True),
        "the best one": lambda d: (d.logits(5, 7), 1, False),
        "the best one, renormalised": lambda d: (d.logits(5, 7), 1, True),
        "all experts": lambda d: (d.logits(5, 8), 8, True),
        "many experts": lambda d: (d.logits(9, 128), 8, True),
        "a view": lambda d: (d.logits(9, 40)[::2, 3:20], 3, False),
        # The best alone: all others are zero, and which of them comes next is left open.
        "exponentials beyond float32": lambda d: (d.logits(5, 16, step=256.0), 1, False),
    },
    "add_norm_route": {
        "no tokens": lambda d: d.add_norm_route(0),
        "one token": lambda d: d.add_norm_route(1),
        "odd sizes": lambda d: d.add_norm_route(5, experts=7, hidden=33, top_k=3),
        "many tokens": lambda d: d.add_norm_route(70),
        "a view": lambda d: d.add_norm_route(3, padding=3),
        "no residual": lambda d: tuple(None if place == 1 else one for place, one in enumerate(d.add_norm_route(3))),
        "weights are shares of all experts": lambda d: (*d.add_norm_route(3)[:-1], False),
    },
    "fused_moe": {
        "no tokens": lambda d: d.moe(0),
        "one token": lambda d: d.moe(1),
        "odd sizes": lambda d: d.moe(7, experts=5, hidden=36, width=20, top_k=3),
        "many tokens": lambda d: d.moe(70),
        "one expert a token": lambda d: d.moe(9, top_k=1),
        "all experts": lambda d: d.moe(4, experts=4, top_k=4),
        "a view": lambda d: d.moe(9, padding=5),
        "everybody to one expert": lambda d: d.moe(9, ids=[[3]] * 9),
        "one token, twice to one expert": lambda d: d.moe(1, ids=[[5, 5]]),
        "no expert here and there": lambda d: d.moe(3, ids=[[0, -1], [-1, -1], [4, 1]]),
        "one token, no expert in one place": lambda d: d.moe(1, ids=[[-1, 2]]),
        "one token, no expert": lambda d: d.moe(1, ids=[[-1, -1]]),
        "no expert at all": lambda d: d.moe(3, ids=[[-1, -1]] * 3),
    },
    "argmax": {
        "no rows": lambda d: (d.randn(0, 40),),
        "one row": lambda d: (d.randn(1, 5000),),
        "odd sizes": lambda d: (d.randn(7, 33),),
        "many rows": lambda d: (d.randn(70, 3000),),
        "a view": lambda d: (d.randn(9, 70)[::2, 3:36],),
        "equal ones": lambda d: (d.full(3, 2500, value=-1.5),),
        "one token": lambda d: (d.randn(4, 1),),
        "all forbidden": lambda d: (d.full(3, 50, value=float("-inf")),),
    },
    "log_softmax": {
        "no rows": lambda d: (d.randn(0, 40),),
        "one row": lambda d: (d.randn(1, 5000),),
        "odd sizes": lambda d: (d.randn(7, 33, scale=5.0),),
        "a view": lambda d: (d.randn(9, 70)[::2, 3:36],),
        "far apart": lambda d: (d.randn(3, 4100, scale=300.0),),
    },
    "apply_bitmask": {
        "no rows": lambda d: d.masks(3, 64, []),
        "one row": lambda d: d.masks(1, 5000, [0]),
        "odd sizes": lambda d: d.masks(7, 77, [5, 0, 3]),
        "all rows": lambda d: d.masks(4, 64, [3, 2, 1, 0]),
        "a view": lambda d: d.masks(5, 45, [4, 1], padding=19),
    },
    "sample_tokens": {
        "no rows": lambda d: d.sampling(0, 40, top_k=[], top_p=[], min_p=[]),
        "one row": lambda d: d.sampling(1, 5000, top_k=[40], top_p=[0.9]),
        "odd sizes": lambda d: d.sampling(7, 33, top_k=[5, 33, 1, 2, 33, 33, 4], top_p=[1, 0.9, 1, 0.5, 1, 0.1, 0.7]),
        "no filters": lambda d: d.sampling(9, 3000),
        "top-k": lambda d: d.sampling(4, 3000, top_k=[1, 7, 3000, 2500]),
        "top-p": lambda d: d.sampling(4, 3000, top_p=[0.2, 0.95, 1.0, 1e-9]),
        "min-p": lambda d: d.sampling(4, 700, min_p=[0.0, 0.05, 0.5, 1.0]),
        "flat rows": lambda d: d.sampling(3, 2100, top_p=[0.5, 0.9, 0.99], min_p=[0.0, 0.0, 0.9], scale=0.1),
        "equal ones": lambda d: d.sampling(2, 600, top_k=[3, 600], top_p=[0.5, 0.3], scale=0.0),
        "some rows": lambda d: d.sampling(9, 333, rows=[7, 0, 4], top_k=[9, 4, 333], min_p=[0.1, 0.0, 0.2]),
        "a view": lambda d: d.sampling(5, 210, top_k=[9] * 5, padding=14),
    },
}

#: Op -> places of the arguments that have a row for each row of the results; other ops are not tried row by row.
ROW_ARGUMENTS: Mapping[str, tuple[int, ...]] = {
    "linear": (0,),
    "rms_norm": (0,),
    "fused_add_rms_norm": (0, 1),
    "silu_and_mul": (0,),
    "rotary": (0, 1, 2),
    "rope_qkv": (0, 1, 2),
    "qk_norm_rope": (0, 3, 4),
    "topk_softmax": (0,),
    "fused_moe": (0, 3, 4),
    "argmax": (0,),
    "log_softmax": (0,),
}
#: Ops that may write into their arguments, as their references say.
MAY_WRITE = frozenset(
    {
        "fused_add_rms_norm",
        "rope_store",
        "qk_norm_rope_store",
        "add_norm_linear",
        "add_norm_gated",
        "add_norm_route",
        "apply_bitmask",
    }
)
#: Op -> places of the arguments that it fills; they count as results.
FILLS: Mapping[str, tuple[int, ...]] = {"rope_store": (5, 6), "qk_norm_rope_store": (7, 8)}
