"""Every op of the Triton set compiles for a Hopper GPU, with its programs started early."""

from __future__ import annotations

import pytest
import torch

from hookline.testkit.op_cases import OP_CASES, Draw
from hookline_kernels import early_launch
from hookline_kernels.triton_invariant.linear import invariant_linear
from hookline_kernels.triton_set import deterministic_ops, triton_ops
from tests.factories.hopper_compiler import compiling_for_hopper

CPU = torch.device("cpu")


@pytest.mark.parametrize("op", sorted(triton_ops(CPU, torch.bfloat16, None)))
def test_an_op_compiles(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_launch, "has_early_launch", lambda device: True)
    function = triton_ops(CPU, torch.bfloat16, None)[op]
    draw = Draw.seeded(torch.bfloat16, CPU, 0)
    with compiling_for_hopper(monkeypatch) as compiled:
        for case in OP_CASES[op].keys() & {"one token", "one row", "odd sizes"}:
            function(*OP_CASES[op][case](draw))
    assert compiled


@pytest.mark.parametrize("op", ["linear", "fused_moe"])
def test_an_op_of_deterministic_engines_compiles(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = deterministic_ops(CPU, torch.bfloat16, None)[op]
    with compiling_for_hopper(monkeypatch) as compiled:
        function(*OP_CASES[op]["many tokens"](Draw.seeded(torch.bfloat16, CPU, 0)))
    assert compiled


def test_the_product_of_many_tokens_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw.seeded(torch.bfloat16, CPU, 0)
    with compiling_for_hopper(monkeypatch) as compiled:
        for outputs in (256, 9000):
            for tokens in (3, 600):
                invariant_linear(draw.randn(tokens, 256), draw.randn(outputs, 256), None)
    assert len(compiled) == 4
