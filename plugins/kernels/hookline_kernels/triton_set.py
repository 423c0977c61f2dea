"""The "triton" op set: our kernels under the names of core's ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from hookline_kernels.triton_dense.products import add_norm_gated, add_norm_linear, linear, logits
from hookline_kernels.triton_draw.sample import sample_tokens
from hookline_kernels.triton_invariant.linear import invariant_linear
from hookline_kernels.triton_moe.experts import fused_moe, fused_moe_deterministic
from hookline_kernels.triton_moe.routing import add_norm_route, topk_softmax
from hookline_kernels.triton_ops import rows
from hookline_kernels.triton_ops.rows import (
    fused_add_rms_norm,
    qk_norm_rope,
    qk_norm_rope_store,
    rms_norm,
    rope_qkv,
    rope_store,
    silu_and_mul,
)
from hookline_kernels.triton_sampling.rows import apply_bitmask, argmax, log_softmax


def triton_ops(device: torch.device, dtype: torch.dtype, options: Any) -> Mapping[str, Callable[..., Any]]:
    """The ops of the set; nothing is compiled before the first call of each."""
    return {
        "linear": linear,
        "logits": logits,
        "add_norm_linear": add_norm_linear,
        "add_norm_gated": add_norm_gated,
        "rope_store": rope_store,
        "qk_norm_rope_store": qk_norm_rope_store,
        "rms_norm": rms_norm,
        "fused_add_rms_norm": fused_add_rms_norm,
        "silu_and_mul": silu_and_mul,
        "rope_qkv": rope_qkv,
        "qk_norm_rope": qk_norm_rope,
        "topk_softmax": topk_softmax,
        "add_norm_route": add_norm_route,
        "fused_moe": fused_moe,
        "argmax": argmax,
        "log_softmax": log_softmax,
        "apply_bitmask": apply_bitmask,
        "sample_tokens": sample_tokens,
    }


def deterministic_ops(device: torch.device, dtype: torch.dtype, options: Any) -> Mapping[str, Callable[..., Any]]:
    """The ops whose rows have the same bits in any batch: no tile and no order of a sum depends on its size."""
    return {
        "linear": invariant_linear,
        "rms_norm": rms_norm,
        "fused_add_rms_norm": fused_add_rms_norm,
        "silu_and_mul": silu_and_mul,
        "rope_qkv": rope_qkv,
        "qk_norm_rope": qk_norm_rope,
        # The other one looks at few tokens in another way than at many.
        "topk_softmax": rows.topk_softmax,
        "fused_moe": fused_moe_deterministic,
        "argmax": argmax,
        "log_softmax": log_softmax,
        "apply_bitmask": apply_bitmask,
        "sample_tokens": sample_tokens,
    }
