"""Passes: what ``plan`` gives for one pass. A layer asks its pass for the wrapper that runs it.

A wrapper is planned when the first layer of its kind asks: what kinds there are is known to the layers alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch

from hookline.batch.forward_batch import MaskKind
from hookline_attention.flashinfer_attention.host_lengths import HostLengths, IntArray
from hookline_attention.flashinfer_attention.layer_kind import LayerKind
from hookline_attention.flashinfer_attention.page_table import PageTable
from hookline_attention.flashinfer_attention.wrappers import Wrappers

if TYPE_CHECKING:
    from hookline.batch.forward_batch import AttentionGeometry


class Pass(ABC):
    """One pass; ``table`` is on the device and filled in by ``prepare``."""

    def __init__(self, geometry: AttentionGeometry, lengths: HostLengths, table: PageTable) -> None:
        self.geometry = geometry
        self.lengths = lengths
        self.table = table
        self._planned: dict[LayerKind, Any] = {}

    def wrapper(self, kind: LayerKind) -> Any:
        """The planned wrapper for layers of a kind."""
        wrapper = self._planned.get(kind)
        if wrapper is None:
            wrapper = self._planned[kind] = self._plan(kind)
        return wrapper

    @abstractmethod
    def _plan(self, kind: LayerKind) -> Any: ...


class EagerPass(Pass):
    """A pass that runs once: a decode where every request has one new token, else a prefill."""

    def __init__(
        self, geometry: AttentionGeometry, lengths: HostLengths, wrappers: Wrappers, device: torch.device
    ) -> None:
        indices = torch.empty(lengths.num_pages, dtype=torch.int32, device=device)
        super().__init__(geometry, lengths, PageTable(lengths.batch_size, indices))
        self._wrappers = wrappers
        self._is_decode = all(new == 1 for new in geometry.extend_lens_cpu)

    def _plan(self, kind: LayerKind) -> Any:
        if self._is_decode:
            return self._wrappers.plan_decode(kind, self.lengths, self.table)
        causal = self.geometry.mask is not MaskKind.FULL
        return self._wrappers.plan_prefill(kind, self.lengths, self.table, causal=causal)


class CapturedDecode(Pass):
    """A decode that is captured, and planned anew before each replay."""

    def __init__(self, geometry: AttentionGeometry, lengths: HostLengths, wrappers: Wrappers, table: PageTable) -> None:
        super().__init__(geometry, lengths, table)
        self._wrappers = wrappers
        self._is_cuda = table.indices.device.type == "cuda"

    def replan(self, seq_lens: IntArray) -> None:
        """For the lengths of a replay."""
        self.lengths = HostLengths(seq_lens, None, self.geometry.page_size, pin=False)
        for kind, wrapper in self._planned.items():
            self._wrappers.replan_captured_decode(wrapper, kind, self.lengths)

    def _plan(self, kind: LayerKind) -> Any:
        if self._is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("a kind of layer that the run before the capture did not have; plans cannot be captured")
        return self._wrappers.plan_captured_decode(kind, self.lengths, self.table)
