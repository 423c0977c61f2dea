"""Broken LoRA backends. Each class of tests names the test that must fail."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hookline.interfaces.lora import LoRABackendSpec, LoRAEnv
from hookline.testkit.lora import LoRABackendSuite
from hookline_lora.peft_adapter import ModuleDelta, read_adapter
from hookline_lora.torch_backend import TorchLoRABackend

if TYPE_CHECKING:
    from hookline.batch.forward_batch import AttentionGeometry
    from hookline.layers.linear import Linear


def spec(target: str) -> LoRABackendSpec:
    return LoRABackendSpec(
        name="broken",
        target=f"{__name__}:{target}",
        features=frozenset({"deterministic"}),
        summary="broken on purpose",
    )


class Unscaled(TorchLoRABackend):
    """Multiplies by alpha, and not by alpha over rank."""

    def _merge(self, layer: Linear, parts: list[Any]) -> Any:
        return super()._merge(layer, [(target, replace(d, scaling=d.scaling * d.rank)) for target, d in parts])


class TestUnscaled(LoRABackendSuite):
    spec = spec("Unscaled")
    caught_by = "test_scaling_follows_the_rank"


class ForgetsRslora(TorchLoRABackend):
    """Scales every adapter by alpha over rank."""

    def load(self, slot: int, name: str, path: Path) -> None:
        self._config = json.loads((path / "adapter_config.json").read_text())
        super().load(slot, name, path)

    def _merge(self, layer: Linear, parts: list[Any]) -> Any:
        if self._config["use_rslora"]:
            parts = [(target, replace(delta, scaling=delta.scaling / delta.rank**0.5)) for target, delta in parts]
        return super()._merge(layer, parts)


class TestForgetsRslora(LoRABackendSuite):
    spec = spec("ForgetsRslora")
    caught_by = "test_scaling_follows_the_rank"


class NoBase(TorchLoRABackend):
    """Takes a pass with one adapter for a pass where everybody uses it."""

    def plan(self, adapters: Sequence[int], geometry: AttentionGeometry) -> Any:
        used = {slot for slot in adapters if slot}
        return super().plan([next(iter(used))] * len(adapters) if len(used) == 1 else adapters, geometry)


class TestNoBase(LoRABackendSuite):
    spec = spec("NoBase")
    caught_by = "test_a_batch_gives_the_outputs_of_merged_weights"


class OneTokenEach(TorchLoRABackend):
    """Takes rows of the pass for requests, as in decoding."""

    def plan(self, adapters: Sequence[int], geometry: AttentionGeometry) -> Any:
        plan = super().plan(adapters, geometry)
        if plan is None or plan[0].rows is None:
            return plan
        slots = torch.tensor(adapters)
        return tuple(replace(segment, rows=(slots == segment.slot).nonzero().squeeze(1)) for segment in plan)


class TestOneTokenEach(LoRABackendSuite):
    spec = spec("OneTokenEach")
    caught_by = "test_a_batch_gives_the_outputs_of_merged_weights"


class AtTheStart(TorchLoRABackend):
    """Puts the delta of v_proj where that of q_proj belongs."""

    def _target_of(self, name: str, delta: ModuleDelta) -> Any:
        target = super()._target_of(name, delta)
        return replace(target, start=0) if delta.module.endswith(".v_proj") else target


class TestAtTheStart(LoRABackendSuite):
    spec = spec("AtTheStart")
    caught_by = "test_one_module_alone"


class Sticky(TorchLoRABackend):
    """A new tenant of a slot leaves the modules that it does not have."""

    def unload(self, slot: int) -> None:
        pass


class TestSticky(LoRABackendSuite):
    spec = spec("Sticky")
    caught_by = "test_a_slot_that_is_loaded_again_keeps_nothing"


class Lenient(TorchLoRABackend):
    """Reads the settings that it knows, and overlooks the others."""

    def load(self, slot: int, name: str, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(path, folder, dirs_exist_ok=True)
            file = Path(folder) / "adapter_config.json"
            config = json.loads(file.read_text())
            known = {key: config[key] for key in ("r", "rank_pattern", "lora_alpha", "use_rslora")}
            file.write_text(json.dumps({**known, "peft_type": "LORA"}))
            super().load(slot, name, Path(folder))


class TestLenient(LoRABackendSuite):
    spec = spec("Lenient")
    caught_by = "test_what_would_be_ignored_is_refused"


class Careless(TorchLoRABackend):
    """Skips modules that the model does not have."""

    def load(self, slot: int, name: str, path: Path) -> None:
        by_layer: dict[Linear, list[Any]] = {}
        for delta in read_adapter(path):
            if delta.module in self._targets:
                target = self._target_of(name, delta)
                by_layer.setdefault(target.layer, []).append((target, delta))
        for layer, parts in by_layer.items():
            self._deltas.setdefault(layer, {})[slot] = self._merge(layer, parts)


class TestCareless(LoRABackendSuite):
    spec = spec("Careless")
    caught_by = "test_an_unknown_module_is_named"


class EmptiesFirst(TorchLoRABackend):
    """Frees the slot before it knows that the new adapter fits."""

    def load(self, slot: int, name: str, path: Path) -> None:
        self.unload(slot)
        super().load(slot, name, path)


class TestEmptiesFirst(LoRABackendSuite):
    spec = spec("EmptiesFirst")
    caught_by = "test_a_failed_load_leaves_the_slot_as_it_was"


class AnyRank(TorchLoRABackend):
    """Loads adapters of any rank, for which a backend with fixed buffers has no room."""

    def __init__(self, env: LoRAEnv) -> None:
        super().__init__(replace(env, max_rank=10_000))


class TestAnyRank(LoRABackendSuite):
    spec = spec("AnyRank")
    caught_by = "test_a_rank_above_the_limit_is_named"


class OneProduct(TorchLoRABackend):
    """Declares "deterministic", and multiplies with whatever kernel the number of rows selects."""

    def __init__(self, env: LoRAEnv) -> None:
        super().__init__(env)
        self._linear = F.linear

    def add_delta(self, layer: Linear, x_TI: Tensor, out_TO: Tensor, plan: Any) -> Tensor:
        deltas = self._deltas.get(layer, {})
        found = [(segment, deltas[segment.slot]) for segment in plan if segment.slot in deltas]
        if not found:
            return out_TO
        # All adapters in one product; the sum runs over those of other requests too.
        stacked_a = torch.cat([delta.a for _, delta in found])
        stacked_b = torch.cat([delta.b for _, delta in found], dim=1)
        mask = torch.zeros(x_TI.shape[0], stacked_a.shape[0], dtype=x_TI.dtype)
        first = 0
        for segment, delta in found:
            rows = slice(None) if segment.rows is None else segment.rows
            mask[rows, first : first + delta.a.shape[0]] = 1
            first += delta.a.shape[0]
        return out_TO + F.linear(F.linear(x_TI, stacked_a) * mask, stacked_b)


class TestOneProduct(LoRABackendSuite):
    spec = spec("OneProduct")
    caught_by = "test_deterministic_deltas_have_the_same_bits_in_any_batch"
