"""Models: built through a BuildContext, run on a ForwardBatch, filled by named weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from hookline.interfaces.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Spec):
    """A model. ``target`` is a subclass of ``hookline.layers.model.Model``, called with (ModelConfig, BuildContext).

    ``name`` is the family ("qwen3_moe"); ``architectures`` are the class names that a checkpoint's
    config.json lists.
    """

    kind: ClassVar[str] = "models"
    target_base: ClassVar[str] = "hookline.layers.model:Model"
    known_features: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "lora": "adapters can be put on its linear layers",
            "embedding": "its hidden states can be pooled to vectors",
            "mrope": "positions have several planes",
            "multimodal": "it takes pictures or other media",
            "tied_embeddings": "output and input embeddings may share their weights",
        }
    )

    architectures: tuple[str, ...] = ()
    #: Number of position planes: 1, or 3 for M-RoPE.
    position_planes: int = 1
    #: "package.module:Class" of the model's ``hookline.interfaces.multimodal.MultimodalProcessor``. It is imported in
    #: the frontend and must not import torch. ``None`` for a model that takes text only.
    processor: str | None = None
    #: Default config values of this family (dotted path -> value), below files and flags, above built-ins:
    #: {"output.reasoning_parser": "think", "output.tool_call_parser": "qwen25"}.
    defaults: Mapping[str, object] = field(default_factory=dict)
