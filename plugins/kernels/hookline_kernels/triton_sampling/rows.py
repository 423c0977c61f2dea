"""``argmax``, ``log_softmax`` and ``apply_bitmask``, as core calls them. Shape letters as in the kernels."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hookline_kernels.triton_sampling.kernels import argmax_kernel, bitmask_kernel, log_softmax_kernel, merge_kernel
from hookline_kernels.triton_sampling.parts import BLOCK, cut


def argmax(logits_SV: Tensor) -> tuple[Tensor, Tensor]:
    """See ``hookline.layers.sampling.argmax``; float32, bfloat16 or float16."""
    rows, vocab_size = logits_SV.shape
    if logits_SV.stride(-1) != 1:
        logits_SV = logits_SV.contiguous()
    best_S = torch.empty(rows, dtype=torch.float32, device=logits_SV.device)
    tokens_S = torch.empty(rows, dtype=torch.int64, device=logits_SV.device)
    if not rows:
        return best_S, tokens_S
    parts, chunk = cut(rows, vocab_size)
    keys_SP = torch.empty(rows, parts, dtype=torch.int64, device=logits_SV.device) if parts > 1 else tokens_S
    argmax_kernel[(rows, parts)](
        logits_SV, keys_SP, best_S, tokens_S, logits_SV.stride(0), vocab_size, chunk,
        BLOCK=BLOCK, IS_WHOLE=parts == 1, num_warps=4,
    )  # fmt: skip
    if parts > 1:
        merge_kernel[(rows,)](keys_SP, best_S, tokens_S, parts, BLOCK_P=triton.next_power_of_2(parts), num_warps=1)
    return best_S, tokens_S


def log_softmax(logits_SV: Tensor) -> Tensor:
    """See ``hookline.layers.sampling.log_softmax``."""
    rows, vocab_size = logits_SV.shape
    if logits_SV.stride(-1) != 1:
        logits_SV = logits_SV.contiguous()
    out_SV = torch.empty(rows, vocab_size, dtype=torch.float32, device=logits_SV.device)
    if rows:
        log_softmax_kernel[(rows,)](logits_SV, out_SV, logits_SV.stride(0), vocab_size, BLOCK=BLOCK, num_warps=8)
    return out_SV


def apply_bitmask(logits_SV: Tensor, rows_C: Tensor, words_CW: Tensor) -> Tensor:
    """See ``hookline.layers.sampling.apply_bitmask``; the last dimensions are contiguous."""
    vocab_size = logits_SV.shape[1]
    if rows_C.numel():
        bitmask_kernel[(rows_C.numel(), triton.cdiv(vocab_size, BLOCK))](
            logits_SV, rows_C, words_CW, logits_SV.stride(0), words_CW.stride(0), vocab_size, BLOCK=BLOCK, num_warps=4
        )
    return logits_SV
