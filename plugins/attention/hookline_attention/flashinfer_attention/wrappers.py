"""Wrappers: makes and plans FlashInfer's wrapper objects.

Everything that this plugin knows of FlashInfer's calls is here. Two of its attributes that are not documented are
used: the pinned memory of a wrapper, which FlashInfer would otherwise overwrite while a copy reads it, and
``fast_decode_plan``, its own way to plan a decode again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hookline_attention.flashinfer_attention.host_lengths import HostLengths
from hookline_attention.flashinfer_attention.layer_kind import LayerKind
from hookline_attention.flashinfer_attention.page_table import PageTable
from hookline_attention.flashinfer_attention.workspace import Workspaces

#: Keys and values lie as [pages, page size, heads, head dimension].
_LAYOUT = "NHD"
_PINNED = "_pin_memory_int_workspace_buffer"


class Wrappers:
    """The wrappers of one backend. Those of eager passes are made once for each kind of layer and planned anew for
    each pass; those of captured passes belong to their pass.

    ``library`` is the module ``flashinfer``; ``prefill_kernel`` is "fa2" or "fa3".
    """

    def __init__(
        self,
        library: Any,
        workspaces: Workspaces,
        *,
        dtype: torch.dtype,
        page_size: int,
        prefill_kernel: str,
        tensor_cores: bool,
    ) -> None:
        self._library = library
        self._workspaces = workspaces
        self._dtype = dtype
        self._page_size = page_size
        self._prefill_kernel = prefill_kernel
        self._tensor_cores = tensor_cores
        self._numbers: dict[LayerKind, int] = {}
        self._prefills: dict[LayerKind, Any] = {}
        self._decodes: dict[LayerKind, Any] = {}

    def plan_prefill(self, kind: LayerKind, lengths: HostLengths, table: PageTable, *, causal: bool) -> Any:
        """A wrapper that is planned for any pass."""
        wrapper = self._prefills.get(kind)
        if wrapper is None:
            with torch.inference_mode(False):
                wrapper = self._library.BatchPrefillWithPagedKVCacheWrapper(
                    self._workspaces.floats, _LAYOUT, backend=self._prefill_kernel
                )
            self._prefills[kind] = wrapper
        self._stage(wrapper)
        wrapper.plan(
            lengths.qo_indptr,
            lengths.indptr,
            table.indices,
            lengths.last_page_len,
            head_dim_qk=kind.head_dim,
            causal=causal,
            seq_lens=lengths.seq_lens,
            max_token_per_sequence=lengths.longest_new,
            **kind.sizes(self._dtype, self._page_size),
        )
        self._workspaces.staging.sent()
        return wrapper

    def plan_decode(self, kind: LayerKind, lengths: HostLengths, table: PageTable) -> Any:
        """A wrapper that is planned for a pass of one token a request."""
        wrapper = self._decodes.get(kind)
        if wrapper is None:
            with torch.inference_mode(False):
                wrapper = self._library.BatchDecodeWithPagedKVCacheWrapper(
                    self._workspaces.floats, _LAYOUT, use_tensor_cores=self._tensor_cores
                )
            self._decodes[kind] = wrapper
        self._plan_decode(wrapper, kind, lengths, table.indices)
        return wrapper

    def plan_captured_decode(self, kind: LayerKind, lengths: HostLengths, table: PageTable) -> Any:
        """A new wrapper whose kernels may be captured: they read the table's tensors, which must stay."""
        with torch.inference_mode(False):
            wrapper = self._library.BatchDecodeWithPagedKVCacheWrapper(
                self._workspaces.floats,
                _LAYOUT,
                use_cuda_graph=True,
                use_tensor_cores=self._tensor_cores,
                paged_kv_indptr_buffer=table.indptr,
                paged_kv_indices_buffer=table.indices,
                paged_kv_last_page_len_buffer=table.last_page_len,
            )
            number = self._numbers.setdefault(kind, len(self._numbers))
            wrapper.reset_workspace_buffer(self._workspaces.floats, self._workspaces.plan_memory(number))
        self._plan_decode(wrapper, kind, lengths, table.indices[:0])
        return wrapper

    def replan_captured_decode(self, wrapper: Any, kind: LayerKind, lengths: HostLengths) -> None:
        """Plan for the requests of a replay. The table's tensors are the graph's to fill."""
        self._stage(wrapper)
        indptr = lengths.indptr
        self._library.fast_decode_plan(
            wrapper,
            indptr,
            # Planning looks at its length only.
            indptr[:0],
            lengths.last_page_len,
            head_dim=kind.head_dim,
            global_override_indptr_cpu=indptr,
            **kind.sizes(self._dtype, self._page_size),
        )
        self._workspaces.staging.sent()

    def _plan_decode(self, wrapper: Any, kind: LayerKind, lengths: HostLengths, indices: Tensor) -> None:
        self._stage(wrapper)
        wrapper.plan(
            lengths.indptr,
            indices,
            lengths.last_page_len,
            head_dim=kind.head_dim,
            seq_lens=lengths.seq_lens,
            **kind.sizes(self._dtype, self._page_size),
        )
        self._workspaces.staging.sent()

    def _stage(self, wrapper: Any) -> None:
        assert hasattr(wrapper, _PINNED), "this version of flashinfer keeps its plans elsewhere"
        setattr(wrapper, _PINNED, self._workspaces.staging.take())
