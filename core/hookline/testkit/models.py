"""ModelSuite: a model against its reference, however the passes are cut."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from hookline import Engine, SamplingParams
from hookline.config.model_config import ModelConfig
from hookline.config.settings import all_settings
from hookline.errors import ModelError, ResolutionError
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.multimodal import ExpandedPrompt
from hookline.layers.model import Model
from hookline.testkit.adapters import Adapter, adaptable
from hookline.testkit.allowed import device_of
from hookline.testkit.checkpoints import EOS, VOCAB_SIZE, is_known, write_small_checkpoint
from hookline.testkit.media_prompts import MediaPrompt, encode, prompt_logits
from hookline.testkit.model_harness import ModelHarness
from hookline.testkit.offer_suite import OfferSuite, in_child
from hookline.testkit.reference_model import reference_model
from hookline.worker.model_loader import load_weights, update_weights

STEPS = 24
LENGTHS = (1, 5, 16, 33)


class ModelSuite(OfferSuite[ModelSpec]):
    """Weights, logits and greedy tokens of small random checkpoints, in float32.

    For a model that transformers does not have, name a class of it with the same tensors and numbers in
    ``architecture``, or override ``write_checkpoint``, ``reference_logits`` and ``reference_hidden``.

    For a model that declares "multimodal", override ``media_prompt`` and ``reference_media_logits``.
    """

    kind = "models"
    confirms: ClassVar[Mapping[str, str]] = {
        "lora": "test_adapters_give_the_logits_of_merged_weights",
        "embedding": "test_hidden_states_are_those_of_the_reference",
        "mrope": "test_position_planes_that_differ",
        "multimodal": "test_media_give_the_logits_of_the_reference",
        "tied_embeddings": "test_tied_embeddings",
    }

    #: Class of transformers that makes the checkpoints and is the reference; the first of the offer's
    #: ``architectures`` if empty.
    architecture: ClassVar[str] = ""
    #: Values of config.json over the sizes in ``hookline.testkit.checkpoints.SMALL``.
    hf_config: ClassVar[Mapping[str, Any]] = {}
    #: What else the family's config.json may say, by a name for the test: {"yarn": {"rope_parameters": {...}}}.
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: Shell patterns of checkpoint tensors that the model passes over on purpose ("model.visual.*").
    unused_tensors: ClassVar[Sequence[str]] = ()
    #: "cpu" or "cuda"; empty: the CPU, unless the offer runs on CUDA alone.
    device_type: ClassVar[str] = ""
    #: How far a logit may be from the reference's.
    tolerance: ClassVar[float] = 1e-4

    # --- what an author may override ---

    @classmethod
    def write_checkpoint(cls, directory: Path, changes: Mapping[str, Any], *, seed: int = 0) -> Path:
        """Write a random checkpoint whose config.json has ``changes``, and lists the offer's architecture."""
        made_as = cls.architecture or cls.offer().spec.architectures[0]
        if not is_known(made_as):
            raise pytest.UsageError(
                f"{cls.__name__}: transformers has no '{made_as}'; set `architecture` to a class that it has, with "
                "the same tensors, or override `write_checkpoint` and `reference_logits`"
            )
        return write_small_checkpoint(
            directory,
            architecture=cls.offer().spec.architectures[0],
            like=made_as,
            hf_config={**cls.hf_config, **changes},
            seed=seed,
        )

    @classmethod
    def reference_logits(
        cls, directory: Path, ids: Sequence[int], positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits [n, V] in float32 of one sequence; ``positions`` [P, n] if they are not 0, 1, 2..."""
        architecture = cls.architecture or cls.offer().spec.architectures[0]
        return reference_model(directory, architecture).logits(ids, positions)

    @classmethod
    def reference_hidden(cls, directory: Path, ids: Sequence[int]) -> torch.Tensor:
        """Hidden states [n, H] after the final norm, for models that declare "embedding"."""
        return reference_model(directory, cls.architecture or cls.offer().spec.architectures[0]).hidden(ids)

    @classmethod
    def media_prompt(cls, directory: Path) -> MediaPrompt:
        """A prompt with two items or more and text around them, for models that declare "multimodal".

        The small checkpoint's vocabulary may lack the model's placeholder; any id will do.
        """
        raise pytest.UsageError(f"{cls.__name__}: the model declares 'multimodal'; override `media_prompt`")

    @classmethod
    def reference_media_logits(cls, directory: Path, prompt: MediaPrompt) -> torch.Tensor:
        """Logits [n, V] in float32 of ``media_prompt``, for models that declare "multimodal"."""
        raise pytest.UsageError(f"{cls.__name__}: the model declares 'multimodal'; override `reference_media_logits`")

    # --- what the tests use ---

    @classmethod
    def device(cls) -> torch.device:
        """Where the model runs; skips the test if there is no such device."""
        return device_of(cls.offer().spec.requires, cls.device_type)

    @classmethod
    def build(cls, directory: Path) -> Model:
        """The model of a checkpoint before its weights are loaded."""
        return ModelHarness.build(directory, cls.target(), device=cls.device())

    @classmethod
    def load(cls, directory: Path, **options: Any) -> ModelHarness:
        """The model with a checkpoint's weights; ``options`` are those of ``ModelHarness.load``."""
        try:
            return ModelHarness.load(directory, cls.target(), device=cls.device(), **options)
        except ResolutionError as exc:
            pytest.skip(f"what is installed cannot run this: {exc}")

    @classmethod
    def assert_agrees(cls, directory: Path, batch: Mapping[str, Sequence[int]]) -> None:
        """Three passes over all prompts, the second of them uneven, against the reference."""
        harness = cls.load(directory)
        harness.step({name: ids[:5] for name, ids in batch.items()})
        got = harness.step({name: ids[5:-1] for name, ids in batch.items()}, all_logits=True)
        last = harness.step({name: ids[-1:] for name, ids in batch.items()})
        for name, ids in batch.items():
            expected = cls.reference_logits(directory, ids)
            cls.assert_close(got[name], expected[5:-1])
            cls.assert_close(last[name], expected[-1])

    @classmethod
    def assert_close(cls, got: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(got.float().cpu(), expected, atol=cls.tolerance, rtol=0)

    @pytest.fixture(scope="class")
    @classmethod
    def checkpoint(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return cls.write_checkpoint(tmp_path_factory.mktemp("checkpoint"), {})

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "variant" in metafunc.fixturenames:
            metafunc.parametrize("variant", sorted(self.variants))

    # --- the spec ---

    def test_target_is_a_model(self) -> None:
        assert issubclass(self.target(), Model)
        assert self.offer().spec.architectures, "without `architectures` no checkpoint finds the model"

    def test_position_planes_are_those_of_the_checkpoint(self, checkpoint: Path) -> None:
        planes = ModelConfig.load(checkpoint).position_planes
        assert self.offer().spec.position_planes == planes
        assert self.has("mrope") == (planes > 1)

    def test_defaults_name_settings_that_exist(self) -> None:
        assert set(self.offer().spec.defaults) - set(all_settings()) == set()

    # --- weights ---

    def test_every_tensor_of_a_checkpoint_has_a_place(self, checkpoint: Path) -> None:
        model = self.build(checkpoint)
        passed_over = [name for name in load_file(checkpoint / "model.safetensors") if model.map_weight(name) is None]
        meant = [name for name in passed_over if any(fnmatch(name, pattern) for pattern in self.unused_tensors)]
        assert passed_over == meant, "map_weight answers None for these, and `unused_tensors` does not list them"
        load_weights(model, checkpoint)

    def test_every_parameter_is_filled(self, checkpoint: Path) -> None:
        model = self.build(checkpoint)
        load_weights(model, checkpoint)
        assert [name for name, parameter in model.parameters.items() if parameter.data.isnan().any()] == []

    def test_a_tensor_that_is_missing_is_named(self, checkpoint: Path, tmp_path: Path) -> None:
        """A parameter that may stay unfilled serves garbage without a word."""
        tensors = load_file(checkpoint / "model.safetensors")
        model = self.build(checkpoint)
        victim = next(name for name in sorted(tensors) if model.map_weight(name) is not None)
        (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
        save_file({name: tensors[name] for name in tensors if name != victim}, tmp_path / "model.safetensors")
        with pytest.raises(ModelError, match="missing"):
            load_weights(self.build(tmp_path), tmp_path)

    def test_weights_that_are_loaded_again_take_effect(self, checkpoint: Path, tmp_path: Path) -> None:
        """A running model gets new weights: whatever was derived from the old ones must go."""
        other = self.write_checkpoint(tmp_path, {}, seed=1)
        (ids,) = prompts([9]).values()
        harness = self.load(checkpoint)
        harness.step({"before": ids})
        update_weights(harness.model, other)
        harness.model.finalize()
        self.assert_close(harness.step({"after": ids}, all_logits=True)["after"], self.reference_logits(other, ids))

    def test_the_kv_cache_has_one_entry_for_each_layer(self, checkpoint: Path) -> None:
        layers = self.build(checkpoint).attention_layers
        assert [layer.layer_id for layer in layers] == list(range(ModelConfig.load(checkpoint).num_layers))

    # --- logits ---

    def test_prefill_logits_of_a_batch(self, checkpoint: Path) -> None:
        batch = prompts()
        got = self.load(checkpoint).step(batch, all_logits=True)
        for name, ids in batch.items():
            self.assert_close(got[name], self.reference_logits(checkpoint, ids))

    @pytest.mark.parametrize("chunk", [1, 7, 16])
    def test_prefill_logits_in_chunks(self, chunk: int, checkpoint: Path) -> None:
        (ids,) = prompts([33]).values()
        harness = self.load(checkpoint)
        parts = [harness.step({"r": ids[at : at + chunk]}, all_logits=True)["r"] for at in range(0, len(ids), chunk)]
        self.assert_close(torch.cat(parts), self.reference_logits(checkpoint, ids))

    def test_logits_of_a_pass_that_mixes_extends_and_decodes(self, checkpoint: Path) -> None:
        batch = prompts([20, 9, 14])
        harness = self.load(checkpoint)
        harness.step({"r0": batch["r0"][:19], "r1": batch["r1"][:4]})
        got = harness.step({"r1": batch["r1"][4:], "r2": batch["r2"], "r0": batch["r0"][19:]})
        for name, ids in batch.items():
            self.assert_close(got[name], self.reference_logits(checkpoint, ids)[-1])

    def test_a_prefix_that_another_request_computed(self, checkpoint: Path) -> None:
        first, second = prompts([24, 24]).values()
        second[:15] = first[:15]
        harness = self.load(checkpoint)
        harness.step({"first": first})
        harness.fork("first", "second", 15)
        got = harness.step({"second": second[15:]}, all_logits=True)["second"]
        self.assert_close(got, self.reference_logits(checkpoint, second)[15:])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_deterministic_engines_give_the_same_bits_in_any_batch(self, dtype: torch.dtype, checkpoint: Path) -> None:
        """Holds for a model whose numbers all come from ops and layers of the BuildContext."""
        batch = prompts([33, 5, 20])
        options: dict[str, Any] = {"dtype": dtype, "deterministic": True}
        together = self.load(checkpoint, **options).step(batch, all_logits=True)
        for name, ids in batch.items():
            for chunk in (len(ids), 7, 1):
                harness = self.load(checkpoint, **options)
                parts = [harness.step({"r": ids[at : at + chunk]}, all_logits=True) for at in range(0, len(ids), chunk)]
                assert torch.equal(torch.cat([part["r"] for part in parts]), together[name])

    def test_the_pass_is_left_as_it_was(self, checkpoint: Path) -> None:
        batch = self.load(checkpoint).batch(prompts())
        ids, positions = batch.input_ids.clone(), batch.positions.clone()
        harness = self.load(checkpoint)
        batch = harness.batch(prompts())
        with torch.inference_mode():
            harness.model.forward(batch)
        assert torch.equal(batch.input_ids, ids)
        assert torch.equal(batch.positions, positions)

    def test_states_are_in_the_compute_dtype_and_logits_in_float32(self, checkpoint: Path) -> None:
        harness = self.load(checkpoint, dtype=torch.bfloat16)
        batch = harness.batch(prompts())
        with torch.inference_mode():
            hidden = harness.model.forward(batch)
            logits = harness.model.compute_logits(hidden[batch.logits_index])
        assert hidden.dtype == torch.bfloat16
        assert hidden.shape == (sum(LENGTHS), harness.model.config.hidden_size)
        assert logits.dtype == torch.float32
        assert logits.shape == (len(LENGTHS), VOCAB_SIZE)

    def test_variants_of_the_config(self, variant: str, tmp_path: Path) -> None:
        self.write_checkpoint(tmp_path, self.variants[variant])
        self.assert_agrees(tmp_path, prompts((33, 7, 20)))

    # --- tokens ---

    @pytest.mark.parametrize("chunk", [None, 8])
    def test_greedy_tokens(self, chunk: int | None, checkpoint: Path) -> None:
        batch = prompts()
        output = self.load(checkpoint).greedy(batch, STEPS, chunk=chunk)
        for name, ids in batch.items():
            self.assert_greedy(checkpoint, ids, output[name])

    def test_an_engine_serves_it(self, checkpoint: Path) -> None:
        """With the installed scheduler, prefix cache and paged KV cache, and requests that share a prefix."""
        self.plugin()
        batch = [list(range(40, 60)) + ids for ids in prompts().values()]
        params = SamplingParams(temperature=0.0, max_new_tokens=STEPS, ignore_eos=True)
        try:
            engine = Engine(checkpoint, dtype="float32", device=self.device().type, check_ledger=True)
        except ResolutionError as exc:
            pytest.skip(f"what is installed cannot make an engine: {exc}")
        with engine:
            outputs = engine.generate(input_ids=batch, sampling_params=params)
        for ids, output in zip(batch, outputs, strict=True):
            self.assert_greedy(checkpoint, ids, output.output_ids)

    @classmethod
    def assert_greedy(cls, directory: Path, prompt: Sequence[int], output: Sequence[int]) -> None:
        """Each token is the reference's best, given those before it, or as good as the best."""
        steps = cls.reference_logits(directory, [*prompt, *output])[len(prompt) - 1 : -1]
        chosen = steps.gather(1, torch.tensor(output)[:, None])[:, 0]
        assert len(output) == STEPS
        assert float((steps.max(-1).values - chosen).max()) <= 2 * cls.tolerance

    # --- features ---

    def test_tied_embeddings(self, checkpoint: Path, tmp_path: Path) -> None:
        self.need("tied_embeddings")
        self.write_checkpoint(tmp_path, {"tie_word_embeddings": True})
        self.assert_agrees(tmp_path, prompts((33, 7, 20)))

    def test_a_tied_checkpoint_may_hold_the_head_a_second_time(self, checkpoint: Path, tmp_path: Path) -> None:
        self.need("tied_embeddings")
        self.write_checkpoint(tmp_path, {"tie_word_embeddings": True})
        file = tmp_path / "model.safetensors"
        tensors = load_file(file)
        heads = set(load_file(checkpoint / "model.safetensors")) - set(tensors)
        (table,) = (tensor for tensor in tensors.values() if tensor.shape[0] == VOCAB_SIZE)
        save_file({**tensors, **{head: table.clone() for head in heads}}, file, metadata={"format": "pt"})
        (ids,) = prompts([9]).values()
        self.assert_close(self.load(tmp_path).step({"r": ids})["r"], self.reference_logits(tmp_path, ids)[-1])

    def test_hidden_states_are_those_of_the_reference(self, checkpoint: Path) -> None:
        self.need("embedding")
        (ids,) = prompts([20]).values()
        harness = self.load(checkpoint)
        with torch.inference_mode():
            hidden = harness.model.forward(harness.batch({"r": ids}))
        self.assert_close(hidden, self.reference_hidden(checkpoint, ids))

    def test_position_planes_that_differ(self, checkpoint: Path) -> None:
        """Text, then a picture of 2 x 3 patches, then text."""
        self.need("mrope")
        temporal = [0, 1, 2, *[3] * 6, 6, 7, 8]
        height = [0, 1, 2, 3, 3, 3, 4, 4, 4, 6, 7, 8]
        width = [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8]
        planes = torch.tensor([temporal, height, width])
        (ids,) = prompts([12]).values()
        got = self.load(checkpoint).step({"r": ids}, all_logits=True, positions=planes.to(self.device()))["r"]
        plain = self.load(checkpoint).step({"r": ids}, all_logits=True)["r"]
        assert (got - plain).abs().max() > 0.1
        self.assert_close(got, self.reference_logits(checkpoint, ids, planes))

    def test_media_give_the_logits_of_the_reference(self, checkpoint: Path) -> None:
        """In one pass, and cut within, before and behind an item."""
        self.need("multimodal")
        prompt = self.media_prompt(checkpoint)
        assert len(prompt.items) > 1, "give two items at least"
        (start, length), *_ = prompt.expanded.spans[0]
        expected = self.reference_media_logits(checkpoint, prompt)
        for cuts in ([], [start + length // 2], [start, start + length], [1, start + 1, start + length + 1]):
            self.assert_close(prompt_logits(self.load(checkpoint), prompt, sorted(set(cuts) - {0})), expected)

    def test_rows_of_an_item_do_not_depend_on_its_neighbours(self, checkpoint: Path) -> None:
        self.need("multimodal")
        prompt = self.media_prompt(checkpoint)
        model = self.load(checkpoint).model
        together = encode(model, prompt)
        for (kind, item), rows in zip(prompt.items, together, strict=True):
            assert tuple(rows.shape) == (item.num_rows, model.encoder_row_size)
            assert rows.dtype == model.ctx.dtype
            alone = encode(model, MediaPrompt(prompt.expanded, [(kind, item)]))[0]
            self.assert_close(alone, rows)

    @pytest.mark.parametrize("cost", [1, 24, 100])
    def test_an_example_of_an_item_can_be_encoded(self, cost: int, checkpoint: Path) -> None:
        self.need("multimodal")
        model = self.load(checkpoint).model
        item, smallest = model.example_item(cost), model.example_item(1)
        if item is None or smallest is None:
            pytest.skip("the model leaves its kernels to the first request")
        assert item.cost <= max(cost, smallest.cost)
        (rows,) = encode(model, MediaPrompt(ExpandedPrompt(input_ids=[], spans=[]), [(item.kind, item)]))
        assert tuple(rows.shape) == (item.num_rows, model.encoder_row_size)

    def test_media_have_a_processor_that_needs_no_torch(self) -> None:
        self.need("multimodal")
        target = self.offer().spec.processor
        assert target is not None, "name the model's processor in ModelSpec.processor"
        module, _, attribute = target.partition(":")
        source = (
            f"import sys, {module} as m; from hookline.interfaces.multimodal import MultimodalProcessor\n"
            f"print(issubclass(m.{attribute}, MultimodalProcessor) and 'torch' not in sys.modules)"
        )
        assert in_child(source).strip() == "True", f"{target} must be a MultimodalProcessor and not import torch"

    def test_adapters_give_the_logits_of_merged_weights(self, checkpoint: Path, tmp_path: Path) -> None:
        self.need("lora")
        tensors = load_file(checkpoint / "model.safetensors")
        harness = self.load(checkpoint, max_adapters=1)
        adapter = Adapter.random(adaptable(harness.model, tensors), seed=1)
        assert adapter.matrices, "the model has no linear layer that an adapter could reach"
        merged = self.write_checkpoint(tmp_path / "merged", {})
        added = {f"{module}.weight": tensors[f"{module}.weight"] + adapter.delta(module) for module in adapter.matrices}
        save_file({**tensors, **added}, merged / "model.safetensors", metadata={"format": "pt"})
        assert harness.lora is not None
        harness.lora.load(1, "random", adapter.save(tmp_path / "adapter"))
        harness.adapters = {"tuned": 1}
        (ids,) = prompts([20]).values()
        got = harness.step({"tuned": ids, "plain": ids}, all_logits=True)
        self.assert_close(got["tuned"], self.reference_logits(merged, ids))
        self.assert_close(got["plain"], self.reference_logits(checkpoint, ids))


def prompts(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> dict[str, list[int]]:
    """Random prompts, "r0", "r1"..., without special tokens."""
    rng = random.Random(seed)
    return {f"r{i}": [rng.randrange(EOS + 3, VOCAB_SIZE) for _ in range(n)] for i, n in enumerate(lengths)}
