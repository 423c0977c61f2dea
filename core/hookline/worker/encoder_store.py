"""EncoderStore: the embedding rows of media on this rank, made and kept as the scheduler orders.

Shape letters: N rows of an item or of a pass, E elements of a row.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.encoder_orders import EncoderOrders, MediaRun
from hookline.batch.forward_batch import EncoderRows
from hookline.interfaces.multimodal import EncoderInput, EncoderItem
from hookline.layers.model import Model
from hookline.platform import Platform

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostItem:
    """An item whose arrays nobody else may change or take away."""

    item: EncoderItem
    tensors: dict[str, torch.Tensor]


class EncoderStore:
    """Rows by digest. ``copy_in`` runs where the orders come in, everything else in the work queue."""

    def __init__(self, model: Model, platform: Platform, dtype: torch.dtype) -> None:
        self._model = model
        self._platform = platform
        self._dtype = dtype
        self._rows: dict[bytes, torch.Tensor] = {}
        #: Digest -> what went wrong, of items that have no rows.
        self.faults: dict[bytes, str] = {}

    def copy_in(self, items: Sequence[EncoderItem]) -> list[HostItem]:
        """Copies of the items' arrays, from which they go to the device."""
        return [HostItem(item, {name: self._copy(array) for name, array in item.tensors.items()}) for item in items]

    def carry_out(self, orders: EncoderOrders, items: Sequence[HostItem]) -> None:
        """Move, drop and make rows; ``items`` are those to encode. Whatever fails is told by ``place``."""
        for digest in orders.offload:
            if digest in self._rows:
                self._rows[digest] = self._platform.to_host(self._rows[digest])
        for digest in orders.drop:
            self._rows.pop(digest, None)
            self.faults.pop(digest, None)
        if items:
            with torch.inference_mode():
                self._encode(items)

    def place(self, runs: Sequence[MediaRun], places_N: torch.Tensor) -> tuple[EncoderRows, dict[bytes, str]]:
        """The rows of a pass that has some, and what is wrong with items; rows that are missing are zeros."""
        pieces, faults = [], {}
        for run in runs:
            rows_NE = self._rows.get(run.digest)
            if rows_NE is None:
                faults[run.digest] = self.faults.get(run.digest, "the rows of an item were never made")
                size = (run.num_rows, self._model.encoder_row_size)
                pieces.append(torch.zeros(size, dtype=self._dtype, device=self._platform.device))
            else:
                piece = rows_NE[run.first_row : run.first_row + run.num_rows]
                pieces.append(piece.to(self._platform.device, non_blocking=True))
        return EncoderRows(places=places_N, rows=pieces[0] if len(pieces) == 1 else torch.cat(pieces)), faults

    def _copy(self, array: npt.NDArray[Any]) -> torch.Tensor:
        dtype = torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype
        buffer = self._platform.host_buffer(tuple(array.shape), dtype)
        buffer.numpy()[...] = array
        return buffer

    def _encode(self, items: Sequence[HostItem]) -> None:
        try:
            found = self._model.encode([self._input(item) for item in items])
            for host, rows_NE in zip(items, found, strict=True):
                self._keep(host.item, rows_NE)
        except Exception as exc:
            if len(items) > 1:
                # One of them is at fault: the others are not to suffer for it.
                for host in items:
                    self._encode([host])
                return
            item = items[0].item
            logger.exception("the encoder failed for an item of kind %s and grid %s", item.kind, item.grid)
            what = f"the encoder failed for the {item.kind} of grid {item.grid}: {type(exc).__name__}: {exc}"
            self.faults[item.digest] = what

    def _input(self, host: HostItem) -> EncoderInput:
        device = self._platform.device
        return EncoderInput(
            kind=host.item.kind,
            tensors={name: tensor.to(device, non_blocking=True) for name, tensor in host.tensors.items()},
            grid=host.item.grid,
            num_rows=host.item.num_rows,
        )

    def _keep(self, item: EncoderItem, rows_NE: torch.Tensor) -> None:
        wanted = (item.num_rows, self._model.encoder_row_size)
        if tuple(rows_NE.shape) != wanted:
            raise ValueError(f"the model made rows {list(rows_NE.shape)} of an item that has {list(wanted)}")
        # A view would keep the rows of the whole batch alive.
        is_part = rows_NE.untyped_storage().nbytes() > rows_NE.numel() * rows_NE.element_size()
        self._rows[item.digest] = rows_NE.to(self._dtype).clone() if is_part else rows_NE.to(self._dtype)
