"""Random LoRA adapters, saved as peft saves them.

Shape letters: R rank, I input features, O output features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hookline.layers.model import Model

#: What else stands in the config of a plain adapter: settings that are off, or mattered in training alone.
_PLAIN: Mapping[str, Any] = {
    "peft_type": "LORA",
    "peft_version": "0.21.0",
    "task_type": "CAUSAL_LM",
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "somebody/base",
    "bias": "none",
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "qalora_group_size": 16,
    "revision": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Deltas of some linear layers: W becomes W + scaling * B @ A."""

    #: Module as checkpoints name it ("model.layers.0.self_attn.q_proj") -> A [R, I] and B [O, R], float32.
    matrices: Mapping[str, tuple[Tensor, Tensor]]
    alpha: float
    use_rslora: bool

    @staticmethod
    def random(
        modules: Mapping[str, tuple[int, int]],
        *,
        rank: int = 4,
        ranks: Mapping[str, int] | None = None,
        alpha: float = 8.0,
        use_rslora: bool = False,
        seed: int = 0,
    ) -> Adapter:
        """An adapter of ``modules`` (name -> (O, I)); ``ranks`` are for modules that differ from ``rank``."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) * 0.2

        matrices = {}
        for module, (out_features, in_features) in modules.items():
            own = (ranks or {}).get(module, rank)
            matrices[module] = (draw(own, in_features), draw(out_features, own))
        return Adapter(matrices=matrices, alpha=alpha, use_rslora=use_rslora)

    def delta(self, module: str) -> Tensor:
        """[O, I], what is added to the weight of a module; a module without one has nothing to add."""
        a_RI, b_OR = self.matrices[module]
        rank = a_RI.shape[0]
        return b_OR @ a_RI * (self.alpha / (rank**0.5 if self.use_rslora else rank))

    def save(self, directory: Path, tensors: Mapping[str, Tensor] | None = None, **config: Any) -> Path:
        """Write the adapter; ``config`` and ``tensors`` replace or add to what it has. Returns the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        ranks = {module: a_RI.shape[0] for module, (a_RI, _) in self.matrices.items()}
        rank = max(ranks.values())
        settings = {
            **_PLAIN,
            "r": rank,
            "rank_pattern": {module: own for module, own in ranks.items() if own != rank},
            "lora_alpha": self.alpha,
            "use_rslora": self.use_rslora,
            "target_modules": sorted({module.rpartition(".")[2] for module in self.matrices}),
            **config,
        }
        (directory / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        saved = {
            f"base_model.model.{module}.lora_{letter}.weight": matrix
            for module, pair in self.matrices.items()
            for letter, matrix in zip("AB", pair, strict=True)
        }
        save_file({**saved, **(tensors or {})}, directory / "adapter_model.safetensors")
        return directory


def adaptable(model: Model, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Modules of a checkpoint that are a linear layer of the model, or a part of a fused one: name -> (O, I)."""
    paths = {
        f"{layer.shape.parent}.{part.name}".removeprefix(".")
        for layer in model.linears.values()
        for part in layer.shape.parts
    }
    found = {}
    for name, tensor in tensors.items():
        mapped = model.map_weight(name)
        if mapped is not None and mapped.endswith(".weight") and mapped.removesuffix(".weight") in paths:
            found[name.removesuffix(".weight")] = (tensor.shape[0], tensor.shape[1])
    return found
