"""Broken op sets. Each class of tests names the test that must fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from hookline.interfaces.kernels import OpSetSpec
from hookline.layers import ops as op
from hookline.layers.ops import Ops
from hookline.testkit.ops import OpSetSuite

OpSet = Mapping[str, Callable[..., Any]]


def spec(target: str, *ops: str) -> OpSetSpec:
    return OpSetSpec(name="broken", target=f"{__name__}:{target}", ops=frozenset(ops), summary="broken on purpose")


def norm_in_half_precision(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Squares overflow, and their sum loses digits."""

    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight

    return {"rms_norm": rms_norm}


class TestNormInHalfPrecision(OpSetSuite):
    spec = spec("norm_in_half_precision", "rms_norm")
    caught_by = "test_an_op_gives_what_the_reference_gives"


def norm_without_a_floor(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Adds eps outside of the root."""

    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x32 = x.float()
        return (x32 / (x32.square().mean(-1, keepdim=True).sqrt() + eps)).to(x.dtype) * weight

    return {"rms_norm": rms_norm}


class TestNormWithoutAFloor(OpSetSuite):
    spec = spec("norm_without_a_floor", "rms_norm")
    caught_by = "test_an_op_gives_what_the_reference_gives"


def norm_in_place(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Saves a buffer that somebody still reads."""

    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return x.copy_(op.rms_norm(x, weight, eps))

    return {"rms_norm": rms_norm}


class TestNormInPlace(OpSetSuite):
    spec = spec("norm_in_place", "rms_norm")
    caught_by = "test_arguments_are_left_as_they_were"


def up_before_gate(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """The layout of another engine."""

    def silu_and_mul(x_TI2: Tensor) -> Tensor:
        up, gate = x_TI2.chunk(2, dim=-1)
        return F.silu(gate) * up

    return {"silu_and_mul": silu_and_mul}


class TestUpBeforeGate(OpSetSuite):
    spec = spec("up_before_gate", "silu_and_mul")
    caught_by = "test_an_op_gives_what_the_reference_gives"


def takes_memory_for_contiguous(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """A kernel that was given no strides."""

    def rotary(x_TND: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
        _, heads, dim = x_TND.shape
        return op.rotary(x_TND.as_strided(x_TND.shape, (heads * dim, dim, 1)), cos_T1D, sin_T1D)

    return {"rotary": rotary}


class TestTakesMemoryForContiguous(OpSetSuite):
    spec = spec("takes_memory_for_contiguous", "rotary")
    caught_by = "test_an_op_gives_what_the_reference_gives"


def one_buffer(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Answers in the same memory every time."""
    buffer = torch.empty(100_000, dtype=dtype, device=device)

    def silu_and_mul(x_TI2: Tensor) -> Tensor:
        result = op.silu_and_mul(x_TI2)
        return buffer[: result.numel()].view(result.shape).copy_(result)

    return {"silu_and_mul": silu_and_mul}


class TestOneBuffer(OpSetSuite):
    spec = spec("one_buffer", "silu_and_mul")
    caught_by = "test_a_result_outlives_the_next_call"


def last_expert_for_none(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Indexes experts by -1, which is the last one."""

    def fused_moe(x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
        ids_TK = ids_TK % w13_EJH.shape[0]
        result: Tensor = Ops().request(op.FUSED_MOE)(x_TH, w13_EJH, w2_EHI, weights_TK, ids_TK)
        return result

    return {"fused_moe": fused_moe}


class TestLastExpertForNone(OpSetSuite):
    spec = spec("last_expert_for_none", "fused_moe")
    caught_by = "test_an_op_gives_what_the_reference_gives"


def always_renormalises(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Takes every model to want weights that add up to one."""

    def topk_softmax(logits_TE: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
        return op.topk_softmax(logits_TE, top_k, True)

    return {"topk_softmax": topk_softmax}


class TestAlwaysRenormalises(OpSetSuite):
    spec = spec("always_renormalises", "topk_softmax")
    caught_by = "test_equal_experts_are_each_taken_once"


def narrow_ids(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Ids as its kernel likes them."""

    def topk_softmax(logits_TE: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
        weights, ids = op.topk_softmax(logits_TE, top_k, renormalize)
        return weights, ids.int()

    return {"topk_softmax": topk_softmax}


class TestNarrowIds(OpSetSuite):
    spec = spec("narrow_ids", "topk_softmax")
    caught_by = "test_an_op_gives_what_the_reference_gives"


def one_scale_for_all(device: torch.device, dtype: torch.dtype, options: Any) -> OpSet:
    """Scales by the largest number of the pass."""

    def linear(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        scale = x_TI.abs().amax() if x_TI.numel() else x_TI.new_ones(())
        return F.linear(x_TI / scale, weight_OI) * scale + (0 if bias_O is None else bias_O)

    return {"linear": linear}


class TestOneScaleForAll(OpSetSuite):
    spec = spec("one_scale_for_all", "linear")
    caught_by = "test_one_bad_token_spoils_no_other"


class TestListsMoreThanItHas(OpSetSuite):
    spec = spec("up_before_gate", "silu_and_mul", "rms_norm")
    caught_by = "test_the_set_has_the_ops_that_the_spec_lists"


class Options(BaseModel):
    tokens_at_once: int = 64


class TestIgnoresOptions(OpSetSuite):
    spec = spec("narrow_ids", "topk_softmax")
    caught_by = "test_options_are_read"

    @classmethod
    def checked_options(cls) -> Options:
        return Options()
