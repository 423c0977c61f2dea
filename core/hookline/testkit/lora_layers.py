"""LoRALayers: linear layers with random weights under a LoRA backend, and what merged weights would give.

Shape letters: T tokens, I input, O output features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hookline.batch.forward_batch import AttentionGeometry
from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.lora import LoRABackend, LoRAEnv
from hookline.layers.build import BuildContext
from hookline.layers.linear import Linear
from hookline.layers.ops import Ops
from hookline.layers.parameters import Part
from hookline.testkit.adapters import Adapter

HIDDEN, WIDTH, HEAD_DIM, Q_HEADS, KV_HEADS = 32, 48, 8, 4, 2
ATTENTION = tuple(f"model.layers.{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "qkvo")
_OUT = {"q_proj": Q_HEADS * HEAD_DIM, "k_proj": KV_HEADS * HEAD_DIM, "v_proj": KV_HEADS * HEAD_DIM, "o_proj": HIDDEN}
#: Every module as checkpoints name it -> (O, I). q, k and v are one layer, and so are gate and up.
MODULES: Mapping[str, tuple[int, int]] = {
    **{
        path: (_OUT[path.rpartition(".")[2]], Q_HEADS * HEAD_DIM if path.endswith("o_proj") else HIDDEN)
        for path in ATTENTION
    },
    **{
        f"model.layers.{layer}.mlp.{part}_proj": (HIDDEN, WIDTH) if part == "down" else (WIDTH, HIDDEN)
        for layer in (0, 1)
        for part in ("gate", "up", "down")
    },
}


class LoRALayers:
    """Two decoder layers' worth of linear layers; the second layer's attention has biases."""

    def __init__(
        self,
        backend_type: Callable[[LoRAEnv], LoRABackend],
        *,
        device: torch.device,
        max_adapters: int,
        max_rank: int,
        dtype: torch.dtype = torch.float32,
        deterministic: bool = False,
        map_weight: Callable[[str], str | None] | None = None,
        backend_options: Any = None,
    ) -> None:
        self.dtype = dtype
        self._device = device
        ctx = BuildContext(device=device, dtype=dtype, ops=Ops(deterministic=deterministic), max_positions=64)
        for layer in (0, 1):
            self._build(ctx, f"model.layers.{layer}", bias=layer == 1)
        generator = torch.Generator().manual_seed(0)
        for parameter in ctx.parameters.values():
            parameter.data.copy_(torch.randn(parameter.data.shape, generator=generator) * 0.2)
        self._weights = {name: parameter.data for name, parameter in ctx.parameters.items()}
        self.linears: Mapping[str, Linear] = ctx.linears
        self.backend = backend_type(
            LoRAEnv(
                device=device,
                dtype=dtype,
                layers=dict(ctx.linears),
                max_adapters=max_adapters,
                max_rank=max_rank,
                map_weight=map_weight or (lambda name: name),
                deterministic=deterministic,
                options=backend_options,
            )
        )
        ctx.finalize(self.backend)

    def inputs(self, num_tokens: int) -> dict[str, Tensor]:
        """Random x [T, I] for every layer."""
        generator = torch.Generator().manual_seed(1)
        return {
            path: torch.randn(num_tokens, layer.shape.in_features, generator=generator).to(self._device, self.dtype)
            for path, layer in self.linears.items()
        }

    @torch.inference_mode()
    def run(self, x: Mapping[str, Tensor], slots: Sequence[int], lengths: Sequence[int]) -> dict[str, Tensor]:
        """Outputs [T, O] of every layer in one pass of requests with these adapters and numbers of new tokens."""
        plan = self.backend.plan(list(slots), self._geometry(lengths))
        return {path: layer.forward(x[path], plan).clone() for path, layer in self.linears.items()}

    def merged(self, path: str, x_TI: Tensor, adapter: Adapter | None) -> Tensor:
        """What the layer gives in float32 with the adapter's deltas in its weight; ``None``: the base model."""
        layer = self.linears[path]
        weight_OI = self._weights[f"{path}.weight"].float().clone()
        bias = self._weights[f"{path}.bias"].float() if layer.shape.bias else None
        start = 0
        for part in layer.shape.parts:
            module = f"{layer.shape.parent}.{part.name}"
            if adapter is not None and module in adapter.matrices:
                weight_OI[start : start + part.size] += adapter.delta(module).to(self._device)
            start += part.size
        return F.linear(x_TI.float(), weight_OI, bias)

    def _build(self, ctx: BuildContext, path: str, *, bias: bool) -> None:
        ctx.qkv_linear(
            f"{path}.self_attn.qkv_proj",
            HIDDEN,
            num_q_heads=Q_HEADS,
            num_kv_heads=KV_HEADS,
            head_dim=HEAD_DIM,
            bias=bias,
        )
        ctx.linear(f"{path}.self_attn.o_proj", Q_HEADS * HEAD_DIM, HIDDEN, bias=bias)
        gate_up = (Part(name="gate_proj", size=WIDTH), Part(name="up_proj", size=WIDTH))
        ctx.merged_linear(f"{path}.mlp.gate_up_proj", HIDDEN, gate_up)
        ctx.linear(f"{path}.mlp.down_proj", WIDTH, HIDDEN)

    def _geometry(self, lengths: Sequence[int]) -> AttentionGeometry:
        """A pass of requests that have 3 tokens in the cache already."""
        prefix = [3] * len(lengths)
        seq_lens = [before + new for before, new in zip(prefix, lengths, strict=True)]

        def tensor(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, device=self._device)

        slots = torch.arange(1, len(lengths) * max(seq_lens) + 1, dtype=torch.int32, device=self._device)
        table = slots.view(len(lengths), -1)
        return AttentionGeometry(
            mode=ForwardMode.DECODE if set(lengths) == {1} else ForwardMode.EXTEND,
            req_to_token=table,
            req_pool_indices=tensor(range(len(lengths))),
            seq_lens=tensor(seq_lens),
            prefix_lens=tensor(prefix),
            seq_lens_cpu=seq_lens,
            prefix_lens_cpu=prefix,
            extend_lens_cpu=list(lengths),
            out_cache_loc=torch.cat([table[row, 3:end] for row, end in enumerate(seq_lens)]).long(),
            page_size=1,
        )
