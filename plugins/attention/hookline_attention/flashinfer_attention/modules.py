"""The modules that FlashInfer compiles for an engine, so that they can be compiled before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from hookline.interfaces.prebuild import KernelBuild, PrebuildEnv
from hookline_attention.flashinfer_attention.kernel_choice import decode_uses_tensor_cores, prefill_kernel
from hookline_attention.flashinfer_attention.library import load_flashinfer
from hookline_attention.options import AttentionOptions

#: FlashInfer's number for positions that are in the queries and keys already.
_NO_POSITIONS = 0


def kernel_builds(env: PrebuildEnv) -> list[KernelBuild]:
    """One for each module: prefill and decode, with and without a window as the model's layers have them.

    A model whose layers cap their scores needs more, which its first passes compile.
    """
    jit = load_flashinfer(env.kernel_cache_dir, "flashinfer.jit")
    return [_build(name, spec) for name, spec in _specs(jit, env)]


def _specs(jit: Any, env: PrebuildEnv) -> Iterator[tuple[str, Any]]:
    options = env.options or AttentionOptions()
    model, dtype = env.model, env.dtype
    capability = torch.cuda.get_device_capability(env.device) if env.device.type == "cuda" else (0, 0)
    prefill = prefill_kernel(options.flashinfer_prefill_kernel, capability)
    tensor_cores = decode_uses_tensor_cores(options.flashinfer_decode_kernel, model.num_q_heads // model.num_kv_heads)
    # Queries, keys and output; then the page list.
    types = (dtype, dtype, dtype, torch.int32, model.head_dim, model.head_dim, _NO_POSITIONS)
    for windowed in sorted({window is not None for window in model.layer_windows}):
        size = f"head dim {model.head_dim}{', window' if windowed else ''}"
        # A decode on tensor cores is a prefill of one token.
        for kernel in dict.fromkeys([prefill, *(["fa2"] if tensor_cores else [])]):
            yield f"prefill {kernel}, {size}", jit.gen_batch_prefill_module(kernel, *types, windowed, False, False)
        if not tensor_cores:
            yield f"decode, {size}", jit.gen_batch_decode_module(*types, windowed, False)


def _build(name: str, spec: Any) -> KernelBuild:
    return KernelBuild(name=name, is_cached=bool(spec.is_compiled), build=lambda: spec.build(verbose=False))
