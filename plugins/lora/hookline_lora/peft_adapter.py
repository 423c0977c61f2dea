"""PeftAdapter: an adapter directory as peft writes it, checked so that nothing in it is ignored.

Shape letters: R rank, I input features, O output features.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hookline.errors import ModelError

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."

#: Settings that change what a trained adapter computes in a way that is not implemented here. They must
#: be off: ``None``, false or empty.
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "lora_bias": "a bias on lora_B",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "modules_to_save": "fully trained modules (modules_to_save)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "target_parameters": "deltas on parameters such as stacked experts (target_parameters)",
    "layer_replication": "replicated layers (layer_replication)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
}
#: Initialisations that leave the base weights as they are. The others (PiSSA, OLoRA ...) change them, so an
#: adapter trained that way is wrong on the plain checkpoint unless it was converted.
_PLAIN_INITS = (True, False, "gaussian", "orthogonal", "eva", "mica")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleDelta:
    """The delta of one module: x -> scaling * B(A(x))."""

    #: Module name in the checkpoint: "model.layers.0.self_attn.q_proj".
    module: str
    #: lora_A [R, I] and lora_B [O, R].
    a: Tensor
    b: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        """R."""
        return self.a.shape[0]


def read_adapter(path: Path) -> list[ModuleDelta]:
    """All deltas of an adapter. Raises ``ModelError`` for whatever cannot be applied as it was trained."""
    config = _read_config(path)
    tensors = _read_tensors(path)
    modules: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(.+)\.lora_([AB])\.weight", name.removeprefix(_PREFIX))
        if match is None:
            unknown.append(name)
        else:
            modules.setdefault(match[1], {})[match[2]] = tensor
    if unknown:
        raise ModelError(
            f"adapter '{path}' has tensors that are not plain LoRA matrices: {_some(unknown)}; only "
            "lora_A.weight and lora_B.weight of linear layers are supported"
        )
    if not modules:
        raise ModelError(f"adapter '{path}' has no weights")
    return [_module_delta(path, config, name, pair) for name, pair in modules.items()]


def _module_delta(path: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, Tensor]) -> ModuleDelta:
    if set(pair) != {"A", "B"}:
        raise ModelError(f"adapter '{path}': '{module}' has lora_{next(iter(pair))} but not the other matrix")
    a_RI, b_OR = pair["A"], pair["B"]
    if a_RI.dim() != 2 or b_OR.dim() != 2 or a_RI.shape[0] != b_OR.shape[1]:
        raise ModelError(
            f"adapter '{path}': the matrices of '{module}' do not fit together: lora_A is {list(a_RI.shape)}, "
            f"lora_B is {list(b_OR.shape)}"
        )
    alpha = _number(
        path, "lora_alpha", _by_pattern(config.get("alpha_pattern") or {}, module, config.get("lora_alpha"))
    )
    rank = a_RI.shape[0]
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return ModuleDelta(module=module, a=a_RI, b=b_OR, scaling=scaling)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """A pattern is a regular expression for the end of a module's name, as peft reads it."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _number(path: Path, key: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ModelError(f"adapter '{path}': {key} must be a number, it is {value!r}")
    return float(value)


def _read_config(path: Path) -> Mapping[str, Any]:
    file = path / CONFIG_NAME
    if not file.is_file():
        raise ModelError(f"no {CONFIG_NAME} in '{path}'; an adapter must be a directory that peft has saved")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelError(f"cannot read '{file}': {exc}") from exc
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise ModelError(f"adapter '{path}' is of peft type {kind!r}; only LORA is supported")
    refused = [words for key, words in _UNSUPPORTED.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        refused.append(f"trained biases (bias='{config['bias']}')")
    if config.get("init_lora_weights", True) not in _PLAIN_INITS:
        refused.append(
            f"init_lora_weights='{config['init_lora_weights']}', which changes the base weights (save the adapter "
            "with path_initial_model_for_weight_conversion)"
        )
    if refused:
        raise ModelError(f"adapter '{path}' uses what is not supported: {'; '.join(refused)}")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    file = path / WEIGHTS_NAME
    if not file.is_file():
        hint = " (adapter_model.bin is not read: save it as safetensors)" if list(path.glob("*.bin")) else ""
        raise ModelError(f"no {WEIGHTS_NAME} in '{path}'{hint}")
    try:
        with safe_open(file, framework="pt") as reader:
            return {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as exc:
        raise ModelError(f"'{file}' is not a valid safetensors file: {exc}") from exc


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
