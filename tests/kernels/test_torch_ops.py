"""The "torch" op set beyond the suite that every set passes."""

from __future__ import annotations

import torch

from hookline.interfaces.kernels import OpSetSpec
from hookline_kernels.plugin import PLUGIN, hookline_ops
from hookline_kernels.torch_ops import rms_norm, torch_ops


def test_hook_hookline_ops() -> None:
    specs = {spec.name: spec for spec in hookline_ops()}
    assert all(isinstance(spec, OpSetSpec) and spec.kind in PLUGIN.provides for spec in specs.values())
    assert specs["torch"].target == f"{torch_ops.__module__}:{torch_ops.__name__}"


def test_float32_on_a_cpu_has_its_own_norm() -> None:
    cpu = torch.device("cpu")
    assert torch_ops(cpu, torch.float32, None)["rms_norm"] is not rms_norm
    assert torch_ops(cpu, torch.bfloat16, None)["rms_norm"] is rms_norm
