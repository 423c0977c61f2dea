"""The flashinfer backend over a stand-in for its package, whose kernels need a GPU: everything but the kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hookline.batch.forward_batch import MaskKind
from hookline.batch.forward_mode import ForwardMode
from hookline.errors import ConfigError
from hookline.interfaces.attention import AttentionEnv
from hookline.interfaces.spec import Requirements
from hookline.testkit.attention import AttentionSuite
from hookline.testkit.attention_cases import AttentionCase, attention_case, layer_info
from hookline_attention.flashinfer_attention.backend import FlashInferAttention
from hookline_attention.flashinfer_attention.kernel_choice import decode_uses_tensor_cores, prefill_kernel
from hookline_attention.options import AttentionOptions
from hookline_attention.plugin import hookline_attention_backends
from tests.factories.fake_flashinfer import fake_library

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU here")

(FLASHINFER,) = (spec for spec in hookline_attention_backends() if spec.name == "flashinfer")


class OverFake(FlashInferAttention):
    """The backend, with the stand-in."""

    def __init__(self, env: AttentionEnv) -> None:
        super().__init__(env, fake_library())


class TestFlashInferOverFake(AttentionSuite):
    device_type = "cpu"
    equal_head_dims = True
    spec = replace(
        FLASHINFER,
        target=f"{__name__}:OverFake",
        # bfloat16 and the larger heads are the kernels' business.
        requires=Requirements(
            dtypes=frozenset({"float16"}), head_dims=frozenset({64, 128}), page_sizes=frozenset({1, 16, 64})
        ),
    )


def backend(library: Any, options: dict[str, str] | None = None, **env: Any) -> FlashInferAttention:
    facts: dict[str, Any] = {
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "page_size": 16,
        "num_q_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 64,
        "max_context_len": 2048,
        "max_running_requests": 8,
    }
    return FlashInferAttention(AttentionEnv(**{**facts, **env}, options=AttentionOptions(**(options or {}))), library)


def case(*lengths: tuple[int, int], layers: Any = None, **more: Any) -> AttentionCase:
    return attention_case(lengths, layers or [layer_info()], dtype=torch.float16, page_size=16, **more)


def run(attention: FlashInferAttention, some: AttentionCase) -> Any:
    plan = attention.plan(some.geometry)
    attention.prepare(plan, some.geometry)
    some.store()
    for q, k, v, layer in zip(some.q, some.k, some.v, some.layers, strict=True):
        attention.forward(q, k, v, layer, some.pool, plan)
    return plan


def test_a_pass_is_planned_once_for_each_kind_of_layer() -> None:
    library = fake_library()
    layers = [
        layer_info(layer_id=0),
        layer_info(layer_id=1, scale=0.3),
        layer_info(layer_id=2, window=5),
        layer_info(layer_id=3, window=5),
    ]
    attention = backend(library)
    for _ in range(2):
        run(attention, case((20, 1), (3, 1), layers=layers, mode=ForwardMode.DECODE))
        run(attention, case((20, 5), (0, 3), layers=layers))
    assert library.calls.plans == ["decode", "decode", "prefill", "prefill"] * 2
    # The wrappers are made once.
    assert len(library.calls.backends) == 4


def test_passes_of_single_tokens_are_decodes_whatever_their_mode() -> None:
    library = fake_library()
    run(backend(library), case((20, 1), (0, 1)))
    assert library.calls.plans == ["decode"]


def test_each_replay_is_planned_for_its_own_lengths() -> None:
    library = fake_library()
    attention = backend(library)
    layers = [layer_info(layer_id=0), layer_info(layer_id=1, window=5)]
    some = case((20, 1), (3, 1), layers=layers, mode=ForwardMode.DECODE)
    geometry = replace(some.geometry, seq_lens_cpu=[2048, 2048])
    plan = attention.plan_capture(geometry)
    some.store()
    for _ in range(3):
        attention.replan(plan, np.array([21, 4]))
        attention.prepare(plan, geometry)
        for index, layer in enumerate(layers):
            out = attention.forward(some.q[index], some.k[index], some.v[index], layer, some.pool, plan)
            assert not out.isnan().any()
    assert library.calls.plans == ["decode", "decode", *["replan"] * 4]
    # What was planned for other lengths is worth nothing: this is why replays are planned.
    attention.replan(plan, np.array([21, 5]))
    out = attention.forward(some.q[0], some.k[0], some.v[0], layers[0], some.pool, plan)
    assert out[1].isnan().all()


def test_captured_passes_share_the_list_of_pages() -> None:
    attention = backend(fake_library())
    large = case((20, 1), (3, 1), (9, 1), mode=ForwardMode.DECODE)
    small = case((20, 1), mode=ForwardMode.DECODE)
    tables = [
        attention.plan_capture(replace(some.geometry, seq_lens_cpu=[2048] * some.geometry.batch_size)).table
        for some in (large, small)
    ]
    assert tables[0].indices.data_ptr() == tables[1].indices.data_ptr()
    assert tables[0].indices.shape == (3 * 2048 // 16,)


@pytest.mark.parametrize(
    ("options", "heads", "expected"),
    [
        ({}, (4, 2), ["decode, CUDA cores", "prefill, fa2"]),
        ({}, (8, 2), ["decode, tensor cores", "prefill, fa2"]),
        ({"flashinfer_decode_kernel": "tensor_cores"}, (4, 2), ["decode, tensor cores", "prefill, fa2"]),
        ({"flashinfer_decode_kernel": "cuda_cores"}, (8, 2), ["decode, CUDA cores", "prefill, fa2"]),
        ({"flashinfer_prefill_kernel": "fa2"}, (4, 2), ["decode, CUDA cores", "prefill, fa2"]),
    ],
)
def test_options_choose_kernels(options: dict[str, str], heads: tuple[int, int], expected: list[str]) -> None:
    library = fake_library()
    attention = backend(library, options, num_q_heads=heads[0], num_kv_heads=heads[1])
    layers = [layer_info(heads=heads)]
    run(attention, case((20, 1), (3, 1), layers=layers, mode=ForwardMode.DECODE))
    run(attention, case((20, 4), (3, 1), layers=layers))
    assert library.calls.backends == expected


@pytest.mark.parametrize(
    ("wanted", "capability", "kernel"),
    [("auto", (9, 0), "fa3"), ("auto", (8, 0), "fa2"), ("auto", (10, 0), "fa2"), ("fa2", (9, 0), "fa2")],
)
def test_fa3_is_for_hopper(wanted: str, capability: tuple[int, int], kernel: str) -> None:
    assert prefill_kernel(wanted, capability) == kernel


@pytest.mark.parametrize(
    ("group", "uses"), [(1, False), (2, False), (3, False), (4, True), (5, True), (7, True), (8, True), (16, True)]
)
def test_tensor_cores_are_for_many_heads_a_key(group: int, uses: bool) -> None:
    assert decode_uses_tensor_cores("auto", group) is uses


def test_kernels_that_do_not_run_here_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'fa3', whose kernels run on Hopper .* has 8.9: use 'fa2' or 'auto'"):
        prefill_kernel("fa3", (8, 9))
    with pytest.raises(ConfigError, match=r"'cuda_cores', whose kernels take 1, 2, 3, 4, 8 .* the model has 5: use"):
        decode_uses_tensor_cores("cuda_cores", 5)


def test_what_the_kernels_cannot_do_is_refused_with_what_can() -> None:
    attention = backend(fake_library())
    with pytest.raises(ValueError, match="no tree masks: use --attention-backend triton"):
        attention.plan(case((20, 4), mask=MaskKind.TREE).geometry)
    sinks = [layer_info(sinks=torch.zeros(4))]
    with pytest.raises(ValueError, match="no sinks, and layer 0 has: use --attention-backend triton"):
        run(attention, case((20, 4), layers=sinks))
    with pytest.raises(ValueError, match="keys of 64 and values of 32: use --attention-backend triton"):
        run(attention, case((20, 4), layers=[layer_info(v_head_dim=32)]))


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ConfigError, match=r"needs the package flashinfer-python, .*hookline-attention\[flashinfer\]"):
        backend(None)
