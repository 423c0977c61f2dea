"""Random LoRA adapters, made and merged with peft."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import transformers


def load_base(path: Path) -> transformers.PreTrainedModel:
    """The checkpoint in float32."""
    config = transformers.AutoConfig.from_pretrained(path)
    auto = (
        transformers.AutoModelForImageTextToText
        if hasattr(config, "vision_config")
        else transformers.AutoModelForCausalLM
    )
    return auto.from_pretrained(path, dtype=torch.float32).eval()


def make_adapter(base: Path, directory: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Save an adapter with random matrices, both of them; returns the directory."""
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings})
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        # peft warns about settings that the tests choose on purpose.
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(load_base(base), config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        model.save_pretrained(str(directory))
    return directory


def merged_model(base: Path, adapter: Path | None) -> transformers.PreTrainedModel:
    """The checkpoint with the adapter's deltas added to its weights."""
    model = load_base(base)
    if adapter is None:
        return model
    with warnings.catch_warnings():
        # peft still asks transformers for attributes that transformers calls deprecated.
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
