"""Attention backends of Hookline: the table of contents."""

from __future__ import annotations

from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.spec import PluginInfo, Requirements
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="attention",
    provides=("attention_backends",),
    config_model="hookline_attention.options:AttentionOptions",
    summary="attention in torch, in Triton and by FlashInfer",
)


@hookimpl
def hookline_attention_backends() -> list[AttentionBackendSpec]:
    return [
        AttentionBackendSpec(
            name="torch_native",
            target="hookline_attention.torch_native:TorchNativeAttention",
            features=frozenset({"mask.full", "mask.window", "mixed", "deterministic"}),
            # A last resort where faster backends exist; alone on CPU.
            priority=-10,
            summary="scaled_dot_product_attention over gathered keys; runs anywhere",
        ),
        AttentionBackendSpec(
            name="triton",
            target="hookline_attention.triton_attention.backend:TritonAttention",
            requires=Requirements(devices=frozenset({"cuda"}), min_capability=(8, 0), packages=("triton>=3.2",)),
            features=frozenset(
                {"mask.full", "mask.window", "mask.tree", "softcap", "sinks", "graphs", "mixed", "deterministic"}
            ),
            summary="Triton kernels: decode split over keys, extend over prefix and new tokens",
        ),
        AttentionBackendSpec(
            name="flashinfer",
            target="hookline_attention.flashinfer_attention.backend:FlashInferAttention",
            requires=Requirements(
                devices=frozenset({"cuda"}),
                min_capability=(8, 0),
                dtypes=frozenset({"float16", "bfloat16"}),
                head_dims=frozenset({64, 128, 256}),
                page_sizes=frozenset({1, 16, 64}),
                packages=("flashinfer-python>=0.6.12,<0.7", "triton>=3.2"),
                # Its kernels are compiled at first use, unless they come compiled.
                programs={"nvcc": "flashinfer-jit-cache", "ninja": "flashinfer-jit-cache"},
            ),
            features=frozenset({"mask.full", "mask.window", "softcap", "graphs", "mixed"}),
            prebuild="hookline_attention.flashinfer_attention.modules:kernel_builds",
            # Behind Triton, which starts without a compiler, and before torch.
            priority=-5,
            summary="FlashInfer's paged prefill (fa2, fa3) and decode kernels, compiled by nvcc at first use",
        ),
    ]
