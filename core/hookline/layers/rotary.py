"""Rotary position embedding: cosines and sines of a pass, computed once and shared by all layers.

Shape letters: P position planes, T tokens, C positions in the table, D head dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hookline.config.rope_config import RopeConfig


class RotaryEmbedding:
    """Looks up the rotation of each token of a pass."""

    def __init__(
        self, rope: RopeConfig, head_dim: int, max_positions: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """``max_positions`` bounds the positions of any pass; the table has a row for each."""
        self.head_dim = head_dim
        self._table_C2D = rotary_table(rope, head_dim, max_positions).to(device=device, dtype=dtype)
        plane_D = _plane_of_frequency(rope, head_dim).repeat(2)
        # [1, 1, 2D]: which plane decides each cosine and sine.
        self._plane = None if rope.position_planes == 1 else plane_D.repeat(2).view(1, 1, -1).to(device)

    def forward(self, positions_PT: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, each [T, 1, D], as the ``rotary`` op wants them."""
        if self._plane is None:
            rows = self._table_C2D.index_select(0, positions_PT[0])
        else:
            planes, num_tokens = positions_PT.shape
            rows_PTD = self._table_C2D.index_select(0, positions_PT.reshape(-1)).view(planes, num_tokens, -1)
            rows = rows_PTD.gather(0, self._plane.expand(1, num_tokens, -1))[0]
        rows = rows.unsqueeze(1)
        return rows[..., : self.head_dim], rows[..., self.head_dim :]


def rotary_table(rope: RopeConfig, head_dim: int, max_positions: int) -> Tensor:
    """[C, 2D] float32: the cosines twice, then the negated sines, then the sines."""
    frequencies, scale = inverse_frequencies(rope, head_dim)
    angles = torch.outer(torch.arange(max_positions, dtype=torch.float32), frequencies)
    cos, sin = angles.cos() * scale, angles.sin() * scale
    return torch.cat((cos, cos, -sin, sin), dim=-1)


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> tuple[Tensor, float]:
    """The D/2 inverse frequencies in float32, and the factor on cos and sin."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    plain = 1.0 / (rope.theta**exponents)
    if rope.rope_type == "default":
        return plain, 1.0
    if rope.rope_type == "linear":
        return plain / rope.factor, 1.0
    if rope.rope_type == "llama3":
        return _llama3(rope, plain), 1.0
    if rope.rope_type == "yarn":
        return _yarn(rope, head_dim, plain)
    raise AssertionError(f"RopeConfig.parse let rope type '{rope.rope_type}' through")


def _llama3(rope: RopeConfig, plain: Tensor) -> Tensor:
    """Long waves are stretched by ``factor``, short ones kept, those between blended."""
    assert rope.original_context_len is not None
    # How often each wave turns within the original context.
    turns = rope.original_context_len * plain / (2 * math.pi)
    blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return plain * (blend + (1 - blend) / rope.factor)


def _yarn(rope: RopeConfig, head_dim: int, plain: Tensor) -> tuple[Tensor, float]:
    """Blend by frequency index between stretched and kept waves; attention is made sharper by ``scale``."""
    context = rope.original_context_len
    assert context is not None

    def index_of(turns: float) -> float:
        """The frequency index whose wave turns so often within the original context."""
        return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = index_of(rope.beta_fast), index_of(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp = (torch.arange(head_dim // 2, dtype=torch.float32) - low) / max(high - low, 0.001)
    stretched_share = ramp.clamp(0.0, 1.0)
    frequencies = plain / rope.factor * stretched_share + plain * (1 - stretched_share)

    if rope.attention_factor is not None:
        scale = rope.attention_factor
    elif rope.mscale and rope.mscale_all_dim:
        scale = _mscale(rope.factor, rope.mscale) / _mscale(rope.factor, rope.mscale_all_dim)
    else:
        scale = _mscale(rope.factor, 1.0)
    return frequencies, scale


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _plane_of_frequency(rope: RopeConfig, head_dim: int) -> Tensor:
    """[D/2] int64: the position plane that turns each frequency."""
    planes = torch.zeros(head_dim // 2, dtype=torch.int64)
    section = rope.mrope_section
    if section is None:
        return planes
    if rope.mrope_interleaved:
        # Planes take turns; what the others leave over belongs to the first.
        step = len(section)
        for plane in range(1, step):
            planes[plane : section[plane] * step : step] = plane
        return planes
    return torch.arange(len(section)).repeat_interleave(torch.tensor(section))
