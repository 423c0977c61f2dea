"""A stand-in for the package ``flashinfer``: its wrappers and their rules, computed densely from the page list.

It is as strict as the real ones: lengths come from host tensors when a pass is planned, pages from device tensors
when it runs, a plan for other lengths gives garbage (NaN), and sizes, dtypes and strides must be those that were
planned.

Shape letters: T tokens of the pass, N query heads, K key-value heads, D head dimension, L tokens of a request.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

#: As the real package has them.
_PLAN_BYTES = 8 << 20
_CUDA_CORE_GROUPS = (1, 2, 3, 4, 8)
_HEAD_DIMS = (64, 128, 256)


@dataclass(slots=True, kw_only=True)
class _Plan:
    """What planning keeps."""

    qo_lens: list[int]
    kv_lens: list[int]
    num_qo_heads: int
    num_kv_heads: int
    head_dim: int
    page_size: int
    causal: bool
    window_left: int
    softcap: float
    sm_scale: float
    q_dtype: torch.dtype
    kv_dtype: torch.dtype


@dataclass(slots=True)
class Calls:
    """What was called, for tests."""

    plans: list[str] = field(default_factory=list)
    backends: list[str] = field(default_factory=list)


def _on_host(tensor: Tensor) -> Tensor:
    assert tensor.device.type == "cpu", "planning from a device tensor would wait for the device"
    assert tensor.dtype == torch.int32
    return tensor


def _seq_lens(indptr: Tensor, last_page_len: Tensor, page_size: int) -> list[int]:
    pages = indptr[1:] - indptr[:-1]
    lens: list[int] = ((pages - 1).clamp(min=0) * page_size + last_page_len).tolist()
    return lens


class _Wrapper:
    """What both wrappers share."""

    def __init__(self, calls: Calls, floats: Tensor, kv_layout: str, *, is_graph: bool) -> None:
        assert kv_layout == "NHD"
        self.calls = calls
        self.device = floats.device
        self.is_cuda_graph_enabled = is_graph
        self._float_workspace_buffer = floats
        self._int_workspace_buffer = torch.empty(_PLAN_BYTES, dtype=torch.uint8)
        self._pin_memory_int_workspace_buffer = torch.empty(_PLAN_BYTES, dtype=torch.uint8)
        self._paged_kv_indptr_buf: Tensor | None = None
        self._paged_kv_indices_buf: Tensor | None = None
        self._paged_kv_last_page_len_buf: Tensor | None = None
        self._made: _Plan | None = None

    def reset_workspace_buffer(self, float_workspace_buffer: Tensor, int_workspace_buffer: Tensor) -> None:
        self._float_workspace_buffer = float_workspace_buffer
        self._int_workspace_buffer = int_workspace_buffer
        self._pin_memory_int_workspace_buffer = torch.empty_like(int_workspace_buffer)

    def _keep(self, plan: _Plan) -> None:
        assert plan.num_qo_heads % plan.num_kv_heads == 0
        assert plan.head_dim in _HEAD_DIMS
        assert plan.q_dtype in (torch.float16, torch.bfloat16)
        assert self._pin_memory_int_workspace_buffer.numel() >= self._int_workspace_buffer.numel()
        self._made = plan

    def _attend(self, q: Tensor, cache: tuple[Tensor, Tensor], q_scale: float | None, out: Tensor | None) -> Tensor:
        plan = self._made
        assert plan is not None, "run before plan"
        k_pages, v_pages = cache
        assert k_pages.shape[1:] == v_pages.shape[1:] == (plan.page_size, plan.num_kv_heads, plan.head_dim)
        assert k_pages.stride() == v_pages.stride()
        assert q.shape == (sum(plan.qo_lens), plan.num_qo_heads, plan.head_dim)
        assert (q.dtype, k_pages.dtype) == (plan.q_dtype, plan.kv_dtype)
        assert q.stride(-1) == 1
        assert self._paged_kv_indptr_buf is not None
        assert self._paged_kv_indices_buf is not None
        assert self._paged_kv_last_page_len_buf is not None
        indptr = self._paged_kv_indptr_buf.tolist()
        kv_lens = _seq_lens(self._paged_kv_indptr_buf, self._paged_kv_last_page_len_buf, plan.page_size)
        out = torch.zeros_like(q) if out is None else out
        assert out.shape == q.shape
        assert out.dtype == q.dtype
        start = 0
        for index, (new, planned, kv_len) in enumerate(zip(plan.qo_lens, plan.kv_lens, kv_lens, strict=True)):
            rows = slice(start, start + new)
            start += new
            if planned != kv_len:
                out[rows] = float("nan")
                continue
            pages = self._paged_kv_indices_buf[indptr[index] : indptr[index + 1]].long()
            k, v = (part[pages].flatten(0, 1)[:kv_len].double() for part in cache)
            out[rows] = _dense(q[rows].double(), k, v, plan, plan.sm_scale * (q_scale or 1.0)).to(q.dtype)
        return out


def _dense(q: Tensor, k: Tensor, v: Tensor, plan: _Plan, scale: float) -> Tensor:
    group = plan.num_qo_heads // plan.num_kv_heads
    new, kv_len = q.shape[0], k.shape[0]
    scores = torch.einsum("qnd,lnd->nql", q, k.repeat_interleave(group, 1)) * scale
    if plan.softcap > 0:
        scores = plan.softcap * torch.tanh(scores / plan.softcap)
    query = torch.arange(kv_len - new, kv_len).unsqueeze(1)
    key = torch.arange(kv_len)
    seen = key <= query if plan.causal else torch.ones(new, kv_len, dtype=torch.bool)
    if plan.window_left >= 0:
        seen = seen & (key + plan.window_left >= query)
    weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), -1)
    return torch.einsum("nql,lnd->qnd", weights, v.repeat_interleave(group, 1))


class FakeDecode(_Wrapper):
    """BatchDecodeWithPagedKVCacheWrapper."""

    def __init__(
        self,
        calls: Calls,
        float_workspace_buffer: Tensor,
        kv_layout: str = "NHD",
        use_cuda_graph: bool = False,
        use_tensor_cores: bool = False,
        paged_kv_indptr_buffer: Tensor | None = None,
        paged_kv_indices_buffer: Tensor | None = None,
        paged_kv_last_page_len_buffer: Tensor | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(calls, float_workspace_buffer, kv_layout, is_graph=use_cuda_graph)
        calls.backends.append("decode, tensor cores" if use_tensor_cores else "decode, CUDA cores")
        self.use_tensor_cores = use_tensor_cores
        self._backend = backend
        self._cached_module: object = None
        if use_cuda_graph:
            assert paged_kv_indptr_buffer is not None
            assert paged_kv_indices_buffer is not None
            assert paged_kv_last_page_len_buffer is not None
            self._fixed_batch_size = len(paged_kv_last_page_len_buffer)
            assert len(paged_kv_indptr_buffer) == self._fixed_batch_size + 1
        self._paged_kv_indptr_buf = paged_kv_indptr_buffer
        self._paged_kv_indices_buf = paged_kv_indices_buffer
        self._paged_kv_last_page_len_buf = paged_kv_last_page_len_buffer

    def plan(
        self,
        indptr: Tensor,
        indices: Tensor,
        last_page_len: Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        q_data_type: torch.dtype = torch.float16,
        kv_data_type: torch.dtype | None = None,
        sm_scale: float | None = None,
        seq_lens: Tensor | None = None,
    ) -> None:
        self.calls.plans.append("decode")
        _on_host(indptr), _on_host(last_page_len)
        if self.is_cuda_graph_enabled:
            self._copy_into_buffers(indptr, indices, last_page_len)
        else:
            self._paged_kv_indptr_buf = indptr.clone()
            self._paged_kv_indices_buf = indices
            self._paged_kv_last_page_len_buf = last_page_len.clone()
        self._cached_module = object()
        lens = _seq_lens(indptr, last_page_len, page_size) if seq_lens is None else _on_host(seq_lens).tolist()
        self.keep_decode(
            lens, num_qo_heads, num_kv_heads, head_dim, page_size, window_left, logits_soft_cap, q_data_type,
            kv_data_type or q_data_type, sm_scale,
        )  # fmt: skip

    def keep_decode(
        self,
        kv_lens: list[int],
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        window_left: int,
        logits_soft_cap: float | None,
        q_dtype: torch.dtype,
        kv_dtype: torch.dtype,
        sm_scale: float | None,
    ) -> None:
        assert self.use_tensor_cores or num_qo_heads // num_kv_heads in _CUDA_CORE_GROUPS
        self._keep(
            _Plan(
                qo_lens=[1] * len(kv_lens),
                kv_lens=kv_lens,
                num_qo_heads=num_qo_heads,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim,
                page_size=page_size,
                causal=False,
                window_left=window_left,
                softcap=logits_soft_cap or 0.0,
                sm_scale=head_dim**-0.5 if sm_scale is None else sm_scale,
                q_dtype=q_dtype,
                kv_dtype=kv_dtype,
            )
        )

    def run(
        self, q: Tensor, paged_kv_cache: tuple[Tensor, Tensor], q_scale: float | None = None, out: Tensor | None = None
    ) -> Tensor:
        return self._attend(q, paged_kv_cache, q_scale, out)

    def _copy_into_buffers(self, indptr: Tensor, indices: Tensor, last_page_len: Tensor) -> None:
        assert self._paged_kv_indptr_buf is not None
        assert self._paged_kv_indices_buf is not None
        assert self._paged_kv_last_page_len_buf is not None
        assert len(last_page_len) == self._fixed_batch_size
        assert len(indices) <= len(self._paged_kv_indices_buf)
        self._paged_kv_indptr_buf.copy_(indptr)
        self._paged_kv_last_page_len_buf.copy_(last_page_len)
        self._paged_kv_indices_buf[: len(indices)].copy_(indices)


class FakePrefill(_Wrapper):
    """BatchPrefillWithPagedKVCacheWrapper."""

    def __init__(
        self, calls: Calls, float_workspace_buffer: Tensor, kv_layout: str = "NHD", backend: str = "auto"
    ) -> None:
        super().__init__(calls, float_workspace_buffer, kv_layout, is_graph=False)
        calls.backends.append(f"prefill, {backend}")

    def plan(
        self,
        qo_indptr: Tensor,
        paged_kv_indptr: Tensor,
        paged_kv_indices: Tensor,
        paged_kv_last_page_len: Tensor,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        page_size: int,
        causal: bool = False,
        sm_scale: float | None = None,
        window_left: int = -1,
        logits_soft_cap: float | None = None,
        q_data_type: torch.dtype = torch.float16,
        kv_data_type: torch.dtype | None = None,
        seq_lens: Tensor | None = None,
        max_token_per_sequence: int | None = None,
    ) -> None:
        self.calls.plans.append("prefill")
        for tensor in (qo_indptr, paged_kv_indptr, paged_kv_last_page_len):
            _on_host(tensor)
        self._paged_kv_indptr_buf = paged_kv_indptr.clone()
        self._paged_kv_indices_buf = paged_kv_indices
        self._paged_kv_last_page_len_buf = paged_kv_last_page_len.clone()
        qo_lens = (qo_indptr[1:] - qo_indptr[:-1]).tolist()
        assert max_token_per_sequence in (None, max(qo_lens))
        lens = _seq_lens(paged_kv_indptr, paged_kv_last_page_len, page_size)
        assert seq_lens is None or _on_host(seq_lens).tolist() == lens
        self._keep(
            _Plan(
                qo_lens=qo_lens,
                kv_lens=lens,
                num_qo_heads=num_qo_heads,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim_qk,
                page_size=page_size,
                causal=causal,
                window_left=window_left,
                softcap=logits_soft_cap or 0.0,
                sm_scale=head_dim_qk**-0.5 if sm_scale is None else sm_scale,
                q_dtype=q_data_type,
                kv_dtype=kv_data_type or q_data_type,
            )
        )

    def run(
        self, q: Tensor, paged_kv_cache: tuple[Tensor, Tensor], q_scale: float | None = None, out: Tensor | None = None
    ) -> Tensor:
        return self._attend(q, paged_kv_cache, q_scale, out)


def fast_decode_plan(
    self: FakeDecode,
    indptr: Tensor,
    indices: Tensor,
    last_page_len: Tensor,
    num_qo_heads: int,
    num_kv_heads: int,
    head_dim: int,
    page_size: int,
    window_left: int = -1,
    logits_soft_cap: float | None = None,
    q_data_type: torch.dtype = torch.float16,
    kv_data_type: torch.dtype | None = None,
    sm_scale: float | None = None,
    global_override_indptr_cpu: Tensor | None = None,
) -> None:
    """Plans again, and leaves the page list's buffers alone."""
    self.calls.plans.append("replan")
    assert self._cached_module is not None, "the first plan is made by plan"
    assert self.is_cuda_graph_enabled
    assert len(last_page_len) == self._fixed_batch_size
    assert global_override_indptr_cpu is not None, "the page list would be read back from the device"
    lens = _seq_lens(_on_host(global_override_indptr_cpu), _on_host(last_page_len), page_size)
    self.keep_decode(
        lens, num_qo_heads, num_kv_heads, head_dim, page_size, window_left, logits_soft_cap, q_data_type,
        kv_data_type or q_data_type, sm_scale,
    )  # fmt: skip


def fake_library() -> Any:
    """What stands in for the module ``flashinfer``; its ``calls`` say what was called."""
    calls = Calls()

    def decode(*args: Any, **kwargs: Any) -> FakeDecode:
        return FakeDecode(calls, *args, **kwargs)

    def prefill(*args: Any, **kwargs: Any) -> FakePrefill:
        return FakePrefill(calls, *args, **kwargs)

    return types.SimpleNamespace(
        calls=calls,
        BatchDecodeWithPagedKVCacheWrapper=decode,
        BatchPrefillWithPagedKVCacheWrapper=prefill,
        fast_decode_plan=fast_decode_plan,
    )
