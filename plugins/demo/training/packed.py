"""The model's forward over packed conversations, with the weights of the transformers model.

transformers pads conversations and runs the vision tower picture by picture. Here conversations, and
likewise pictures, lie end to end, and attention is told where each begins. The
numbers are the same; tests/demo compares them.

Shape suffixes: T packed tokens, H hidden, N heads, D head width, P packed patches, E experts,
K chosen experts, O and I out and in.
"""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn

from training.batches import Batch, VisualGroup
from training.pixels import FRAME_PAIR, MERGE, scale

# The keyword for causal attention changed between releases of torch.
_CAUSAL: dict[str, Any] = (
    {"window_size": (-1, 0)} if "window_size" in inspect.signature(varlen_attn).parameters else {"is_causal": True}
)


class PackedModel:
    """Computes logits where a batch asks for them. Holds no weights of its own."""

    def __init__(self, model: Any) -> None:
        # A transformers model: its submodules have no types.
        self.model = model
        self.visual = model.model.visual
        self.language = model.model.language_model
        self.head = model.lm_head
        self._grids: dict[tuple[int, int], tuple[torch.Tensor, ...]] = {}

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits at `batch.predict`, and the load-balancing loss of the routers."""
        hidden_TH = self.language.embed_tokens(batch.ids)
        deep: list[torch.Tensor] = []
        if batch.groups:
            targets = torch.cat([group.targets for group in batch.groups])
            rows, deep = self._see(batch)
            hidden_TH = hidden_TH.index_copy(0, targets, rows.to(hidden_TH.dtype))
        cos_TD, sin_TD = self._rotary(batch.positions)
        router_logits = []
        for i, layer in enumerate(self.language.layers):
            hidden_TH = hidden_TH + self._attend(layer, hidden_TH, cos_TD, sin_TD, batch)
            mixed_TH, logits = self._experts(layer, hidden_TH)
            hidden_TH = hidden_TH + mixed_TH
            router_logits.append(logits)
            if i < len(deep):
                hidden_TH = hidden_TH.index_add(0, targets, deep[i].to(hidden_TH.dtype))
        last = _norm(self.language.norm, hidden_TH.index_select(0, batch.predict))
        return self.head(last), _balance_loss(router_logits)

    def _rotary(self, positions_3T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rotary = self.language.rotary_emb
        angles_3TF = positions_3T[..., None].float() * rotary.inv_freq.float()
        mixed_TF = angles_3TF[0].clone()
        for axis in (1, 2):
            places = slice(axis, 3 * rotary.mrope_section[axis], 3)
            mixed_TF[:, places] = angles_3TF[axis][:, places]
        angles_TD = torch.cat((mixed_TF, mixed_TF), dim=-1)
        return angles_TD.cos()[:, None], angles_TD.sin()[:, None]

    def _attend(
        self, layer: Any, hidden_TH: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        attention = layer.self_attn
        x = _norm(layer.input_layernorm, hidden_TH)
        shape = (len(x), -1, attention.head_dim)
        q_TND = _norm(attention.q_norm, attention.q_proj(x).view(shape))
        k_TND = _norm(attention.k_norm, attention.k_proj(x).view(shape))
        v_TND = attention.v_proj(x).view(shape)
        num_heads, repeats = q_TND.shape[1], attention.num_key_value_groups
        turned_TND = _rotate(torch.cat((q_TND, k_TND), dim=1), cos, sin).to(v_TND.dtype)
        q_TND, k_TND = turned_TND[:, :num_heads], turned_TND[:, num_heads:]
        k_TND = k_TND.repeat_interleave(repeats, dim=1)
        v_TND = v_TND.repeat_interleave(repeats, dim=1)
        out = _attend(q_TND, k_TND, v_TND, batch.starts, batch.max_len, causal=True)
        mixed: torch.Tensor = attention.o_proj(out.reshape(len(x), -1))
        return mixed

    def _experts(self, layer: Any, hidden_TH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mixture's output, and the router's logits."""
        block = layer.mlp
        x_TH = _norm(layer.post_attention_layernorm, hidden_TH)
        logits_TE = F.linear(x_TH, block.gate.weight)
        weights_TK, chosen_TK = logits_TE.float().softmax(-1).topk(block.gate.top_k, dim=-1)
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
        top_k = block.gate.top_k
        order = chosen_TK.flatten().argsort(stable=True)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        # torch.bincount would wait for the device.
        counts = F.one_hot(chosen_TK.flatten(), block.gate.num_experts).sum(0)
        ends = counts.cumsum(0).to(torch.int32)
        rows = _Permute.apply(x_TH.repeat_interleave(top_k, dim=0), order, back)
        gate, up = _grouped(rows, block.experts.gate_up_proj, ends).chunk(2, dim=-1)
        out = _grouped(F.silu(gate) * up, block.experts.down_proj, ends)
        out_TKH = _Permute.apply(out, back, order).view(len(x_TH), top_k, -1)
        return (out_TKH * weights_TK.unsqueeze(-1).to(out.dtype)).sum(1), logits_TE

    def _see(self, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Merged rows [P/4, H] of all pictures, and those of the deepstack taps."""
        visual = self.visual
        x_PH = torch.cat([self._embed(group) for group in batch.groups])
        factors = [self._grid(group.grid)[1:] for group in batch.groups]
        numbers = [len(group.patches) for group in batch.groups]
        cos, sin = (torch.cat([f[i].repeat(n, 1, 1) for f, n in zip(factors, numbers, strict=True)]) for i in range(2))
        max_len = max(group.patches.shape[1] for group in batch.groups)
        deep = []
        for i, block in enumerate(visual.blocks):
            attention = block.attn
            qkv = attention.qkv(block.norm1(x_PH)).view(len(x_PH), 3, attention.num_heads, -1)
            q, k, v = qkv.unbind(1)
            q, k = _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype)
            out = _attend(q, k, v, batch.segments, max_len, causal=False)
            x_PH = x_PH + attention.proj(out.flatten(1))
            x_PH = x_PH + block.mlp(block.norm2(x_PH))
            if i in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(i)]
                deep.append(merger(x_PH))
        return visual.merger(x_PH), deep

    def _embed(self, group: VisualGroup) -> torch.Tensor:
        """Patches [P, H] of the pictures of one grid, with their learned positions."""
        projection = self.visual.patch_embed.proj
        kernel = projection.weight.flatten(1)
        x = scale(group.patches)
        if x.shape[-1] * FRAME_PAIR == kernel.shape[1]:
            # A picture is a pair of equal frames.
            kernel = projection.weight.sum(2).flatten(1)
        places: torch.Tensor = self._grid(group.grid)[0] @ self.visual.pos_embed.weight
        rows: torch.Tensor = F.linear(x, kernel, projection.bias) + places
        return rows.flatten(0, 1)

    def _grid(self, grid: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """The mixture of learned positions of each patch of a grid, and its rotary factors."""
        if grid not in self._grids:
            device = self.visual.pos_embed.weight.device
            height, width = grid
            rows = torch.arange(height).view(height // MERGE, 1, MERGE, 1)
            cols = torch.arange(width).view(1, width // MERGE, 1, MERGE)
            shape = (height // MERGE, width // MERGE, MERGE, MERGE)
            row, col = rows.expand(shape).flatten(), cols.expand(shape).flatten()
            side = self.visual.num_grid_per_side
            mix = (_mix(row, height, side)[:, :, None] * _mix(col, width, side)[:, None, :]).flatten(1)
            inv_freq = self.visual.rotary_pos_emb.inv_freq.float().cpu()
            angles = torch.cat([row[:, None] * inv_freq, col[:, None] * inv_freq], dim=-1)
            angles = torch.cat([angles, angles], dim=-1)[:, None]
            tensors = (mix, angles.cos(), angles.sin())
            self._grids[grid] = tuple(tensor.to(device) for tensor in tensors)
        return self._grids[grid]


class _Permute(torch.autograd.Function):
    """Rows in another order. The gradient is the inverse permutation, not a scatter-add, whose order of
    additions differs from run to run."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, order: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(back)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return gradient.index_select(0, back), None, None


def _mix(index: torch.Tensor, size: int, side: int) -> torch.Tensor:
    """Linear interpolation of a table of `side` entries at each index, corners aligned."""
    source = index.float() * (side - 1) / max(size - 1, 1)
    distance = (source[:, None] - torch.arange(side)).abs()
    return (1 - distance).clamp(min=0)


def _norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.variance_epsilon)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    x = x.float()
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _grouped(rows: torch.Tensor, weight_EOI: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Rows sorted by expert, each times its expert's matrix."""
    if rows.is_cuda:
        return F.grouped_mm(rows.bfloat16(), weight_EOI.bfloat16().transpose(1, 2), offs=ends)
    bounds = [0, *ends.tolist()]
    parts = [
        F.linear(rows[start:end].to(weight_EOI.dtype), weight)
        for start, end, weight in zip(bounds, bounds[1:], weight_EOI, strict=False)
    ]
    return torch.cat(parts)


def _attend(
    q_TND: torch.Tensor,
    k_TND: torch.Tensor,
    v_TND: torch.Tensor,
    starts: torch.Tensor,
    max_len: int,
    *,
    causal: bool,
) -> torch.Tensor:
    """Attention within each stretch of tokens."""
    if q_TND.is_cuda:
        q, k, v = q_TND.bfloat16(), k_TND.bfloat16(), v_TND.bfloat16()
        options = _CAUSAL if causal else {}
        out = varlen_attn(q, k, v, starts, starts, max_len, max_len, **options)
        assert isinstance(out, torch.Tensor)
        return out
    outs = []
    bounds = starts.tolist()
    for start, end in itertools.pairwise(bounds):
        q, k, v = (x[start:end].transpose(0, 1).float() for x in (q_TND, k_TND, v_TND))
        outs.append(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(0, 1))
    return torch.cat(outs)


def _balance_loss(router_logits: list[torch.Tensor]) -> torch.Tensor:
    """The Switch Transformer loss: one when all experts are used alike."""
    losses = []
    for logits_TE in router_logits:
        probabilities = logits_TE.float().softmax(-1)
        num_experts = logits_TE.shape[-1]
        chosen = probabilities.topk(2, dim=-1).indices.flatten()
        used = F.one_hot(chosen, num_experts).float().mean(0)
        losses.append(num_experts * (used * probabilities.mean(0)).sum())
    return torch.stack(losses).mean()
