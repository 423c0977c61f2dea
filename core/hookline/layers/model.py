"""Model: the base class of every model that runs in the worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hookline.layers.parameters import Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.batch.forward_batch import ForwardBatch
    from hookline.config.model_config import ModelConfig
    from hookline.interfaces.attention import AttentionLayerInfo
    from hookline.interfaces.lora import LoRABackend
    from hookline.interfaces.multimodal import EncoderInput, EncoderItem
    from hookline.layers.build import BuildContext
    from hookline.layers.linear import Linear


class Model(ABC):
    """A model: layers made through a BuildContext, run on a ForwardBatch, filled by named weights.

    The worker builds it, loads weights into ``parameters``, calls ``finalize``, and then runs ``forward``
    once per pass, from one thread, under ``torch.inference_mode``.
    """

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        self.config = config
        self.ctx = ctx

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Every parameter by path."""
        return self.ctx.parameters

    @property
    def linears(self) -> Mapping[str, Linear]:
        """Every linear layer by path."""
        return self.ctx.linears

    @property
    def attention_layers(self) -> Sequence[AttentionLayerInfo]:
        """What the KV cache must hold, in layer order."""
        return self.ctx.attention_layers

    def finalize(self, lora: LoRABackend | None = None) -> None:
        """Bind the layers over loaded weights; called after every load, before the next pass."""
        self.ctx.finalize(lora)

    @abstractmethod
    def forward(self, batch: ForwardBatch) -> Tensor:
        """Hidden states after the final norm, [T, H] in the compute dtype. Must not change ``batch``."""

    @abstractmethod
    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        """Logits [S, V] in float32 of chosen rows of ``forward``'s result."""

    @property
    def encoder_row_size(self) -> int:
        """E: elements of one embedding row that ``encode`` makes; 0 for a model that takes text only."""
        return 0

    def encode(self, items: Sequence[EncoderInput]) -> list[Tensor]:
        """Embedding rows [N, E] of each item, in the compute dtype; they come back in ``ForwardBatch.encoder_rows``.

        Items of several requests come together. What is made of one must not depend on the others. Launches work and
        does not wait for the device. For models with ``encoder_row_size``.
        """
        raise NotImplementedError(f"{type(self).__name__} takes text only")

    def example_item(self, cost: int) -> EncoderItem | None:
        """An item of any content and of at most ``cost`` patches, or the smallest that there is.

        Encoded once on a GPU before the engine is ready: to compile kernels, and to know what memory it takes.
        ``None``: that is left to the first request.
        """
        return None

    def map_weight(self, name: str) -> str | None:
        """The name under which the model knows a checkpoint tensor; ``None`` if it has no use for it.

        Called for every tensor of the checkpoint. A name that comes back and is not a piece of a parameter
        is reported as unexpected.
        """
        return name
