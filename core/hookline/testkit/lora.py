"""LoRABackendSuite: deltas of several adapters in one batch against merged weights.

Shape letters: T tokens, I input, O output features, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from hookline.errors import ModelError
from hookline.interfaces.lora import LoRABackend, LoRABackendSpec
from hookline.testkit.adapters import Adapter
from hookline.testkit.allowed import device_of
from hookline.testkit.lora_layers import ATTENTION, MODULES, LoRALayers
from hookline.testkit.offer_suite import OfferSuite

MAX_ADAPTERS = 4
MAX_RANK = 16
#: Settings of an adapter that change what it computes -> what a refusal must speak of (a regular expression).
REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "another method": ({"peft_type": "IA3"}, "ia3|lora"),
    "DoRA": ({"use_dora": True}, "dora"),
    "trained biases": ({"bias": "all"}, "bias"),
    "a bias on lora_B": ({"lora_bias": True}, "bias"),
    "trained modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save|lm_head"),
    "transposed weights": ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    "trained token embeddings": ({"trainable_token_indices": [3]}, "trainable_token_indices"),
    "stacked experts": ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters|experts"),
    "replicated layers": ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication"),
    "base weights that it changed": ({"init_lora_weights": "pissa"}, "init_lora_weights|pissa"),
}
#: Adapters of a batch, by slot; 0 is the base model.
BATCHES = {
    "one": [1],
    "one and the base": [1, 0],
    "base first": [0, 2, 0],
    "several, mixed": [2, 0, 1, 3, 1, 0, 2],
    "one for all": [3, 3, 3],
}


class LoRABackendSuite(OfferSuite[LoRABackendSpec]):
    """Runs the backend under linear layers that a BuildContext made: fused and plain, with and without bias."""

    kind = "lora_backends"
    confirms: ClassVar[Mapping[str, str]] = {
        "deterministic": "test_deterministic_deltas_have_the_same_bits_in_any_batch"
    }

    #: "cpu" or "cuda"; empty: the CPU, unless the offer runs on CUDA alone.
    device_type: ClassVar[str] = ""
    #: How far an output may be from that of merged weights, relative to the largest value, by dtype.
    tolerances: ClassVar[Mapping[torch.dtype, float]] = {torch.float32: 1e-5, torch.bfloat16: 3e-2}

    # --- what the tests use ---

    @classmethod
    def device(cls) -> torch.device:
        """Where the tests run; skips the test if there is no such device."""
        return device_of(cls.offer().spec.requires, cls.device_type)

    @classmethod
    def layers(cls, adapters: Mapping[int, Path] | None = None, **options: Any) -> LoRALayers:
        """Layers under the backend, with adapters by slot. ``options`` are those of ``LoRALayers``."""
        layers = LoRALayers(
            cls.target(),
            device=cls.device(),
            max_adapters=MAX_ADAPTERS,
            max_rank=MAX_RANK,
            backend_options=cls.checked_options(),
            **options,
        )
        assert isinstance(layers.backend, LoRABackend), "the target must be a subclass of LoRABackend"
        for slot, path in (adapters or {}).items():
            layers.backend.load(slot, f"adapter {slot}", path)
        return layers

    @classmethod
    def assert_merged(
        cls, layers: LoRALayers, adapters: Mapping[int, Adapter], slots: Sequence[int], lengths: Sequence[int]
    ) -> None:
        """Every layer, for a batch of requests of these adapters (by slot) and numbers of new tokens."""
        x = layers.inputs(sum(lengths))
        got = layers.run(x, slots, lengths)
        for path, out in got.items():
            parts = zip(torch.split(out, list(lengths)), torch.split(x[path], list(lengths)), slots, strict=True)
            for got_TO, x_TI, slot in parts:
                expected = layers.merged(path, x_TI, adapters.get(slot))
                bound = cls.tolerances[layers.dtype] * max(1.0, float(expected.abs().max()))
                worst = float((got_TO.float() - expected).abs().nan_to_num(torch.inf).max())
                assert worst <= bound, f"{path}, adapter slot {slot}: off by {worst:.3g} (allowed: {bound:.3g})"

    @pytest.fixture(scope="class")
    @classmethod
    def adapters(cls) -> dict[int, Adapter]:
        """Different ranks, scalings and modules; the first has parts of fused layers, the second all modules."""
        some = {module: MODULES[module] for module in MODULES if module.endswith(("q_proj", "v_proj", "up_proj"))}
        ranks = {module: 1 + index % 5 for index, module in enumerate(MODULES)}
        return {
            1: Adapter.random(some, rank=4, seed=1),
            2: Adapter.random(MODULES, rank=MAX_RANK, ranks=ranks, alpha=16, seed=2),
            3: Adapter.random(MODULES, rank=8, alpha=6, use_rslora=True, seed=3),
        }

    @pytest.fixture(scope="class")
    @classmethod
    def saved(cls, adapters: Mapping[int, Adapter], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
        root = tmp_path_factory.mktemp("adapters")
        return {slot: adapter.save(root / str(slot)) for slot, adapter in adapters.items()}

    # --- numbers ---

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("batch", sorted(BATCHES))
    def test_a_batch_gives_the_outputs_of_merged_weights(
        self, batch: str, dtype: torch.dtype, adapters: dict[int, Adapter], saved: dict[int, Path]
    ) -> None:
        slots = BATCHES[batch]
        lengths = [(5, 1, 9, 2)[index % 4] for index in range(len(slots))]
        self.assert_merged(self.layers(saved, dtype=dtype), adapters, slots, lengths)

    @pytest.mark.parametrize("batch", sorted(BATCHES))
    def test_decoding_gives_the_outputs_of_merged_weights(
        self, batch: str, adapters: dict[int, Adapter], saved: dict[int, Path]
    ) -> None:
        slots = BATCHES[batch]
        self.assert_merged(self.layers(saved), adapters, slots, [1] * len(slots))

    @pytest.mark.parametrize("rank", [1, 3, MAX_RANK])
    @pytest.mark.parametrize("use_rslora", [False, True])
    def test_scaling_follows_the_rank(self, rank: int, use_rslora: bool, tmp_path: Path) -> None:
        adapter = Adapter.random(MODULES, rank=rank, alpha=7, use_rslora=use_rslora)
        self.assert_merged(self.layers({1: adapter.save(tmp_path)}), {1: adapter}, [1], [4])

    @pytest.mark.parametrize("module", sorted(MODULES))
    def test_one_module_alone(self, module: str, tmp_path: Path) -> None:
        """Of a fused layer, this stretch of the output alone changes."""
        adapter = Adapter.random({module: MODULES[module]})
        self.assert_merged(self.layers({1: adapter.save(tmp_path)}), {1: adapter}, [1, 0], [4, 3])

    def test_patterns_of_ranks_and_scalings_are_followed_or_refused(self, tmp_path: Path) -> None:
        module = sorted(MODULES)[0]
        adapter = Adapter.random({module: MODULES[module]}, rank=2, alpha=9)
        saved = adapter.save(tmp_path, lora_alpha=1, alpha_pattern={module.rpartition(".")[2]: 9})
        try:
            layers = self.layers({1: saved})
        except ModelError:
            return
        self.assert_merged(layers, {1: adapter}, [1], [4])

    def test_names_of_the_checkpoint_are_mapped_to_those_of_the_model(self, tmp_path: Path) -> None:
        """A checkpoint may name modules otherwise than the model; adapters use the checkpoint's names."""
        adapter = Adapter.random(MODULES)
        foreign = {f"outer.{module}": pair for module, pair in adapter.matrices.items()}
        saved = Adapter(matrices=foreign, alpha=adapter.alpha, use_rslora=False).save(tmp_path)
        layers = self.layers({1: saved}, map_weight=lambda name: name.removeprefix("outer."))
        self.assert_merged(layers, {1: adapter}, [1], [4])

    def test_the_base_model_has_its_bits_beside_adapters(self, saved: dict[int, Path]) -> None:
        layers = self.layers(saved)
        x = layers.inputs(6)
        plain = layers.run(x, [0, 0], [3, 3])
        mixed = layers.run(x, [0, 2], [3, 3])
        for path, out in mixed.items():
            assert torch.equal(out[:3], plain[path][:3]), path

    def test_the_input_is_left_as_it_was(self, saved: dict[int, Path]) -> None:
        layers = self.layers(saved)
        x = layers.inputs(6)
        before = {path: rows.clone() for path, rows in x.items()}
        layers.run(x, [1, 2], [3, 3])
        assert all(torch.equal(x[path], before[path]) for path in x)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_deterministic_deltas_have_the_same_bits_in_any_batch(
        self, dtype: torch.dtype, saved: dict[int, Path]
    ) -> None:
        self.need("deterministic")
        layers = self.layers(saved, dtype=dtype, deterministic=True)
        slots, lengths = [2, 0, 1, 3, 2], [33, 4, 1, 20, 7]
        x = layers.inputs(sum(lengths))
        together = layers.run(x, slots, lengths)
        ends = torch.tensor(lengths).cumsum(0).tolist()
        for slot, length, end in zip(slots, lengths, ends, strict=True):
            for chunk in (length, 3):
                for first in range(end - length, end, chunk):
                    last = min(first + chunk, end)
                    rows = {path: whole[first:last] for path, whole in x.items()}
                    for path, out in layers.run(rows, [slot], [last - first]).items():
                        assert torch.equal(out, together[path][first:last]), f"{path}, slot {slot}"

    # --- slots ---

    def test_a_slot_that_is_loaded_again_keeps_nothing(self, saved: dict[int, Path], tmp_path: Path) -> None:
        """Neither of its last tenant, nor of one that was unloaded before."""
        narrow = Adapter.random({module: MODULES[module] for module in ATTENTION[:1]}, rank=2, seed=5)
        layers = self.layers(saved)
        layers.backend.load(2, "narrow", narrow.save(tmp_path))
        self.assert_merged(layers, {2: narrow}, [2, 0], [4, 2])
        layers.backend.unload(3)
        layers.backend.load(3, "narrow", tmp_path)
        self.assert_merged(layers, {2: narrow, 3: narrow}, [3, 2], [4, 2])

    def test_loading_and_unloading_leave_other_slots_alone(
        self, adapters: dict[int, Adapter], saved: dict[int, Path]
    ) -> None:
        layers = self.layers(saved)
        layers.backend.unload(2)
        self.assert_merged(layers, adapters, [1, 3, 0], [4, 2, 1])
        layers.backend.load(4, "again", saved[2])
        self.assert_merged(layers, {**adapters, 4: adapters[2]}, [4, 1, 3], [4, 2, 1])

    def test_every_slot_up_to_the_limit_can_be_used(self, tmp_path: Path) -> None:
        adapters = {slot: Adapter.random(MODULES, seed=slot) for slot in range(1, MAX_ADAPTERS + 1)}
        layers = self.layers({slot: adapter.save(tmp_path / str(slot)) for slot, adapter in adapters.items()})
        self.assert_merged(layers, adapters, [*adapters, 0], [2] * (MAX_ADAPTERS + 1))

    # --- what is refused ---

    @pytest.mark.parametrize("what", sorted(REFUSED))
    def test_what_would_be_ignored_is_refused(self, what: str, tmp_path: Path) -> None:
        settings, words = REFUSED[what]
        path = Adapter.random(MODULES).save(tmp_path, **settings)
        with pytest.raises(ModelError, match=f"(?i){words}"):
            self.layers({1: path})

    def test_an_unknown_module_is_named(self, tmp_path: Path) -> None:
        path = Adapter.random({**MODULES, "model.layers.0.mlp.shift_proj": (8, 8)}).save(tmp_path)
        with pytest.raises(ModelError, match="shift_proj"):
            self.layers({1: path})

    def test_a_rank_above_the_limit_is_named(self, tmp_path: Path) -> None:
        path = Adapter.random(MODULES, rank=MAX_RANK + 7).save(tmp_path)
        with pytest.raises(ModelError, match=rf"{MAX_RANK + 7}.*{MAX_RANK}|{MAX_RANK}\D.*{MAX_RANK + 7}"):
            self.layers({1: path})

    def test_an_adapter_for_other_sizes_is_refused(self, tmp_path: Path) -> None:
        """A wider A would fail in the middle of serving, a narrower B change a part of the output."""
        module = sorted(MODULES)[0]
        out_features, in_features = MODULES[module]
        for index, shape in enumerate([(out_features, in_features + 8), (out_features - 8, in_features)]):
            with pytest.raises(ModelError, match=module.rpartition(".")[2]):
                self.layers({1: Adapter.random({module: shape}).save(tmp_path / str(index))})

    def test_half_of_a_pair_is_refused(self, tmp_path: Path) -> None:
        module, *others = MODULES
        stray = {f"base_model.model.{module}.lora_A.weight": torch.ones(4, MODULES[module][1])}
        with pytest.raises(ModelError, match=module.rpartition(".")[2]):
            self.layers({1: Adapter.random({name: MODULES[name] for name in others}).save(tmp_path, stray)})

    def test_tensors_that_are_no_matrices_of_lora_are_refused(self, tmp_path: Path) -> None:
        stray = {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector": torch.ones(8)}
        with pytest.raises(ModelError, match="magnitude"):
            self.layers({1: Adapter.random(MODULES).save(tmp_path, stray)})

    def test_missing_and_broken_files_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"adapter_config\.json"):
            self.layers({1: tmp_path})
        Adapter.random(MODULES).save(tmp_path)
        (tmp_path / "adapter_model.safetensors").write_bytes(b"junk")
        with pytest.raises(ModelError, match="adapter_model"):
            self.layers({1: tmp_path})
        (tmp_path / "adapter_model.safetensors").unlink()
        with pytest.raises(ModelError, match="adapter_model"):
            self.layers({1: tmp_path})
        (tmp_path / "adapter_config.json").write_text("{")
        with pytest.raises(ModelError, match=r"adapter_config\.json"):
            self.layers({1: tmp_path})

    def test_a_failed_load_leaves_the_slot_as_it_was(
        self, adapters: dict[int, Adapter], saved: dict[int, Path], tmp_path: Path
    ) -> None:
        """The modules that fit must not be in place when one that does not is found."""
        path = Adapter.random({**MODULES, "model.layers.9.mlp.up_proj": (8, 8)}).save(tmp_path)
        layers = self.layers(saved)
        with pytest.raises(ModelError):
            layers.backend.load(2, "broken", path)
        self.assert_merged(layers, adapters, [2, 1], [4, 2])
