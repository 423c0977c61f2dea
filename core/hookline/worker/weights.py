"""Weights: loading, replacing, releasing and resuming the parameters of a running model."""

from __future__ import annotations

from pathlib import Path

from hookline.errors import RequestError
from hookline.interfaces.lora import LoRABackend
from hookline.layers.model import Model
from hookline.platform import Platform
from hookline.worker.load_plan import LayoutOption
from hookline.worker.model_loader import Progress, fill_dummy_weights, load_weights, update_weights, weight_bytes

#: Bytes from which on several threads read a checkpoint faster than one.
_LARGE = 1 << 26


class Weights:
    """The parameters of one model and where they came from."""

    def __init__(
        self,
        model: Model,
        path: Path,
        platform: Platform,
        *,
        lora: LoRABackend | None = None,
        is_dummy: bool = False,
        expert_layout: LayoutOption = "auto",
    ) -> None:
        self._model = model
        self._path = path
        self._platform = platform
        self._lora = lora
        self._is_dummy = is_dummy
        self._expert_layout = expert_layout
        self.is_loaded = False

    def load(self, progress: Progress | None = None) -> None:
        """Fill the parameters and bind the layers over them."""
        if self._is_dummy:
            fill_dummy_weights(self._model)
        else:
            is_large = weight_bytes(self._model.parameters) >= _LARGE
            load_weights(
                self._model,
                self._path,
                expert_layout=self._expert_layout,
                progress=progress,
                num_readers=self._platform.num_readers if is_large else 1,
            )
        self._model.finalize(self._lora)
        self.is_loaded = True

    def update(self, path: Path) -> None:
        """Replace the weights by those of another checkpoint; after an error the old ones are still there."""
        if not self.is_loaded:
            raise RequestError("the weights are released; resume them before they are updated")
        update_weights(self._model, path, expert_layout=self._expert_layout)
        self._model.finalize(self._lora)
        # From now on this is what a resume reads.
        self._path, self._is_dummy = path, False

    def release(self) -> None:
        """Give the memory back. The tensors stay where layers refer to them, without storage."""
        if self.is_loaded:
            self.is_loaded = False
            for parameter in self._model.parameters.values():
                parameter.data.untyped_storage().resize_(0)
            self._platform.release_cached()

    def resume(self) -> None:
        """Take the memory again and read the weights again, from where they were read last."""
        if not self.is_loaded:
            for parameter in self._model.parameters.values():
                parameter.data.untyped_storage().resize_(parameter.nbytes)
            self.load()
