"""What torch_native does beyond the suite that every backend passes."""

from __future__ import annotations

import pytest
import torch

from hookline.batch.forward_batch import MaskKind
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.testkit.attention import AttentionSuite
from hookline_attention.plugin import PLUGIN, hookline_attention_backends
from hookline_attention.torch_native import TorchNativeAttention


class Native(AttentionSuite):
    name = "torch_native"


def test_hook_hookline_attention_backends() -> None:
    specs = {spec.name: spec for spec in hookline_attention_backends()}
    assert all(isinstance(spec, AttentionBackendSpec) and spec.kind in PLUGIN.provides for spec in specs.values())
    assert specs["torch_native"].target == f"{TorchNativeAttention.__module__}:{TorchNativeAttention.__name__}"


def test_a_tree_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="tree"):
        Native.run(Native.case([(0, 30)], mask=MaskKind.TREE))


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_request_without_new_tokens_takes_no_rows(deterministic: bool) -> None:
    Native.check(Native.case([(5, 0), (3, 2), (9, 0), (4, 1)]), deterministic=deterministic)


def test_slots_whose_flat_offset_exceeds_31_bits() -> None:
    case = Native.case([(10, 1), (3, 4)], dtype=torch.bfloat16, page_size=1)
    # Never written as a whole, so the system backs only the pages that hold these slots.
    far = [torch.empty(2**31 // (2 * 64) + 100, 2, 64, dtype=torch.bfloat16) for _ in range(2)]
    shift = far[0].shape[0] - case.pool.planes(0)[0].shape[0]
    for plane, near in zip(far, case.pool.planes(0), strict=True):
        plane[shift:] = near
    case.pool.replace(0, far[0], far[1])
    case.geometry.req_to_token = case.geometry.req_to_token + shift
    case.geometry.out_cache_loc = case.geometry.out_cache_loc + shift
    assert int(case.geometry.req_to_token.max()) * 128 >= 2**31
    Native.check(case)
