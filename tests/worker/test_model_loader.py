"""Loading weights: every layout gives the same parameters, and whatever does not fit is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hookline.errors import ModelError
from hookline.layers.model import Model
from hookline.testkit.model_harness import ModelHarness
from hookline.worker.checkpoint import Checkpoint
from hookline.worker.load_plan import LayoutOption
from hookline.worker.model_loader import fill_dummy_weights, load_weights, update_weights, weight_bytes
from tests.factories.checkpoints import FAMILIES, make_model

Tensors = dict[str, Tensor]


def build(path: Path, dtype: torch.dtype = torch.float32) -> Model:
    return ModelHarness.build(path, dtype=dtype)


def loaded(path: Path, *, expert_layout: LayoutOption = "auto", dtype: torch.dtype = torch.float32) -> Tensors:
    """Every parameter after loading."""
    model = build(path, dtype)
    load_weights(model, path, expert_layout=expert_layout)
    return {name: parameter.data for name, parameter in model.parameters.items()}


def save(path: Path, family: str = "qwen3", **changes: Any) -> Tensors:
    """A checkpoint in one file; returns its tensors."""
    make_model(family, **changes).save_pretrained(path)
    return tensors_of(path)


def tensors_of(path: Path) -> Tensors:
    return load_file(path / "model.safetensors")


def rewrite(path: Path, change: Callable[[Tensors], Tensors | None]) -> None:
    """Save the checkpoint's tensors again, changed."""
    tensors = tensors_of(path)
    tensors = change(tensors) or tensors
    save_file(
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
        path / "model.safetensors",
    )


def shard(path: Path, count: int) -> None:
    """Spread the single file over several, with an index."""
    tensors = tensors_of(path)
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    size = math.ceil(len(names) / count)
    for index in range(count):
        part = names[index * size : (index + 1) * size]
        file = f"model-{index + 1:05}-of-{count:05}.safetensors"
        save_file({name: tensors[name] for name in part}, path / file)
        weight_map |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def assert_same(got: Tensors, expected: Tensors) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


# --- what fits ---


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_filled(family: str, tmp_path: Path) -> None:
    save(tmp_path, family)
    for name, tensor in loaded(tmp_path).items():
        assert torch.isfinite(tensor).all(), name


def test_fused_projections_lie_one_after_the_other(tmp_path: Path) -> None:
    tensors = save(tmp_path, "qwen2")
    got = loaded(tmp_path)
    attention, mlp = "model.layers.1.self_attn", "model.layers.1.mlp"
    for suffix in ("weight", "bias"):
        parts = [tensors[f"{attention}.{part}_proj.{suffix}"] for part in "qkv"]
        assert torch.equal(got[f"{attention}.qkv_proj.{suffix}"], torch.cat(parts))
    parts = [tensors[f"{mlp}.{part}_proj.weight"] for part in ("gate", "up")]
    assert torch.equal(got[f"{mlp}.gate_up_proj.weight"], torch.cat(parts))


def test_shards_with_an_index_are_one_checkpoint(tmp_path: Path) -> None:
    save(tmp_path)
    expected = loaded(tmp_path)
    shard(tmp_path, 3)
    # A file that the index does not list is a copy in another layout.
    save_file({"consolidated": torch.zeros(1)}, tmp_path / "consolidated.safetensors")
    assert_same(loaded(tmp_path), expected)


def test_several_files_without_an_index(tmp_path: Path) -> None:
    save(tmp_path)
    expected = loaded(tmp_path)
    shard(tmp_path, 2)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert_same(loaded(tmp_path), expected)


@pytest.mark.parametrize("has_head", [False, True])
def test_tied_embeddings_need_no_head(has_head: bool, tmp_path: Path) -> None:
    tensors = save(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight" not in tensors
    if has_head:
        rewrite(tmp_path, lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"]})
    got = loaded(tmp_path)
    assert "lm_head.weight" not in got
    assert torch.equal(got["model.embed_tokens.weight"], tensors["model.embed_tokens.weight"])


def test_names_without_the_prefix_as_embedding_checkpoints_have_them(tmp_path: Path) -> None:
    save(tmp_path, tie_word_embeddings=True)
    expected = loaded(tmp_path)
    rewrite(tmp_path, lambda t: {name.removeprefix("model."): tensor for name, tensor in t.items()})
    assert_same(loaded(tmp_path), expected)


def test_weights_are_cast_to_the_compute_dtype(tmp_path: Path) -> None:
    tensors = save(tmp_path)
    got = loaded(tmp_path, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in got.values()} == {torch.bfloat16}
    name = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(got[name], tensors[name].bfloat16())


def test_the_vision_tower_is_loaded(tmp_path: Path) -> None:
    tensors = save(tmp_path, "qwen3_vl_moe")
    got = loaded(tmp_path)
    patches = tensors["model.visual.patch_embed.proj.weight"]
    assert torch.equal(got["model.visual.patch_embed.proj.weight"], patches)
    assert sum(name.startswith("model.visual.") for name in got) == sum("visual" in name for name in tensors)


def test_progress_is_told_for_every_tensor(tmp_path: Path) -> None:
    tensors = save(tmp_path)
    seen: list[tuple[int, int]] = []
    load_weights(build(tmp_path), tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, len(tensors)) for done in range(1, len(tensors) + 1)]


# --- expert layouts ---

GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"


def transposed(tensors: Tensors, *suffixes: str) -> Tensors:
    """The other of the two fused layouts, for the named tensors."""
    return {name: t.transpose(1, 2) if name.endswith(suffixes) else t for name, t in tensors.items()}


def separate(tensors: Tensors) -> Tensors:
    """Fused expert tensors of the transformers layout as one tensor per expert and projection."""
    out: Tensors = {}
    for name, tensor in tensors.items():
        prefix = name.rpartition(".")[0]
        if name.endswith(GATE_UP):
            for expert, both in enumerate(tensor):
                gate, up = both.chunk(2)
                out[f"{prefix}.{expert}.gate_proj.weight"] = gate
                out[f"{prefix}.{expert}.up_proj.weight"] = up
        elif name.endswith(DOWN):
            out |= {f"{prefix}.{expert}.down_proj.weight": matrix for expert, matrix in enumerate(tensor)}
        else:
            out[name] = tensor
    return out


@pytest.mark.parametrize("layout", ["published", "separate"])
def test_expert_layouts_give_the_same_parameters(layout: str, tmp_path: Path) -> None:
    tensors = save(tmp_path, "qwen3_vl_moe")
    expected = loaded(tmp_path)
    stacked = tensors[f"model.language_model.layers.0.{GATE_UP}"]
    assert torch.equal(expected[f"model.layers.0.{GATE_UP}"], stacked)
    rewrite(tmp_path, separate if layout == "separate" else lambda t: transposed(t, GATE_UP, DOWN))
    assert_same(loaded(tmp_path), expected)


def test_a_square_tensor_has_the_layout_of_its_neighbours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # The hidden size is twice the width of an expert, 40: gate_up is square, down is not.
    save(tmp_path, "qwen3_vl_moe", hidden_size=80)
    expected = loaded(tmp_path)
    assert "transformers layout" in caplog.text
    rewrite(tmp_path, lambda t: transposed(t, GATE_UP, DOWN))
    caplog.clear()
    assert_same(loaded(tmp_path), expected)
    assert "published layout" in caplog.text
    assert len([record for record in caplog.records if "layout" in record.message]) == 1


def test_the_option_settles_a_square_tensor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, "qwen3_vl_moe", hidden_size=80)
    expected = loaded(tmp_path)
    rewrite(tmp_path, lambda t: transposed(t, GATE_UP))
    caplog.clear()
    assert_same(loaded(tmp_path, expert_layout="published"), expected)
    assert "model.moe_expert_layout" in caplog.text


def test_a_square_tensor_that_nothing_settles_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "qwen3_vl_moe", hidden_size=80)
    rewrite(tmp_path, lambda t: {**separate(t), **{n: x for n, x in t.items() if n.endswith(GATE_UP)}})
    rewrite(tmp_path, lambda t: {n: x for n, x in t.items() if ".gate_proj." not in n and ".up_proj." not in n})
    with pytest.raises(ModelError, match=r"gate_up_proj.*model\.moe_expert_layout"):
        loaded(tmp_path)
    assert torch.isfinite(loaded(tmp_path, expert_layout="transformers")[f"model.layers.0.{GATE_UP}"]).all()


# --- what does not fit ---


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    def spoil(tensors: Tensors) -> None:
        del tensors["model.layers.0.self_attn.k_proj.weight"]
        del tensors["model.norm.weight"]
        tensors["model.layers.1.mlp.down_proj.weight"] = torch.zeros(3, 4)
        tensors["model.layers.7.extra"] = torch.zeros(2)

    save(tmp_path)
    rewrite(tmp_path, spoil)
    model = build(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_weights(model, tmp_path)
    message = str(caught.value)
    assert "2 missing: model.layers.0.self_attn.k_proj.weight, model.norm.weight" in message
    assert "1 unexpected: model.layers.7.extra" in message
    assert "model.layers.1.mlp.down_proj.weight is [3, 4], not [64, 96]" in message
    # Nothing was read.
    assert all(torch.isnan(parameter.data).all() for parameter in model.parameters.values())


def test_missing_and_misshapen_experts_are_named(tmp_path: Path) -> None:
    save(tmp_path, "qwen3_moe")
    name = "model.layers.2.mlp.experts.3.up_proj.weight"
    rewrite(tmp_path, lambda t: {other: x for other, x in t.items() if other != name})
    with pytest.raises(ModelError, match=f"1 missing: {name}"):
        loaded(tmp_path)
    save(tmp_path / "vl", "qwen3_vl_moe")
    name = f"model.language_model.layers.0.{DOWN}"
    rewrite(tmp_path / "vl", lambda t: {**t, name: torch.zeros(6, 64, 39)})
    with pytest.raises(ModelError, match=r"down_proj is \[6, 64, 39\], not \[6, 64, 40\]"):
        loaded(tmp_path / "vl")


def test_two_names_of_one_weight_are_refused(tmp_path: Path) -> None:
    save(tmp_path, tie_word_embeddings=True)
    rewrite(tmp_path, lambda t: {**t, "norm.weight": t["model.norm.weight"]})
    with pytest.raises(ModelError, match=r"'model\.norm\.weight' and 'norm\.weight' of .* are the same weight"):
        loaded(tmp_path)


def test_quantised_checkpoints_are_refused(tmp_path: Path) -> None:
    tensors = save(tmp_path)
    name = "model.layers.0.mlp.down_proj.weight"
    rewrite(tmp_path, lambda t: {**t, f"{name}_scale_inv": torch.ones(1, 1)})
    with pytest.raises(ModelError, match=rf"quantised \({name}_scale_inv\)"):
        loaded(tmp_path)
    save_file({**tensors, name: tensors[name].to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=rf"quantised \({name}\)"):
        loaded(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ModelError, match="quantised by 'fp8'"):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a tensor", b"\x10\0\0\0\0\0\0\0garbage"])
def test_a_corrupt_file_is_named(content: bytes, tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors' is not a valid safetensors file"):
        loaded(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    save(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors' is not a valid safetensors file.*fetch it again"):
        loaded(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    save(tmp_path)
    shard(tmp_path, 3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"not there: model-00002-of-00003\.safetensors"):
        loaded(tmp_path)


def test_a_broken_index_is_named(tmp_path: Path) -> None:
    save(tmp_path)
    shard(tmp_path, 2)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**weight_map, "ghost": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(ModelError, match="not in their files: ghost"):
        loaded(tmp_path)
    index.write_text("{}")
    with pytest.raises(ModelError, match=r"cannot read .*index\.json"):
        loaded(tmp_path)


def test_a_directory_without_safetensors_says_what_it_has(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors in"):
        loaded(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match=r"found pytorch_model\.bin: convert"):
        loaded(tmp_path)


def test_a_tensor_in_two_files_without_an_index_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    save_file({"model.norm.weight": torch.ones(64)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=r"'model\.norm\.weight' is in both 'a\.safetensors' and 'b\.safetensors'"):
        loaded(tmp_path)


# --- dummy weights and updates ---


def test_dummy_weights_are_small_seeded_and_the_same_each_time(tmp_path: Path) -> None:
    save(tmp_path, "qwen3_moe")
    first, second = build(tmp_path), build(tmp_path)
    fill_dummy_weights(first)
    fill_dummy_weights(second)
    assert weight_bytes(first.parameters) == sum(4 * p.data.numel() for p in first.parameters.values())
    for name, parameter in first.parameters.items():
        assert torch.equal(parameter.data, second.parameters[name].data)
        assert parameter.data.abs().max() <= 1e-3
        assert parameter.data.std() > 1e-4


def test_dummy_weights_of_a_large_parameter_repeat_no_row(tmp_path: Path) -> None:
    save(tmp_path, "llama")
    model = build(tmp_path)
    large = next(iter(model.parameters.values()))
    large.data = torch.empty(1100, 1024)
    fill_dummy_weights(model)
    assert len({tuple(row) for row in large.data[:, :4].tolist()}) == 1100


@pytest.mark.parametrize("num_readers", [2, 5, 100])
def test_many_readers_give_the_same_weights_and_tell_of_each_tensor(num_readers: int, tmp_path: Path) -> None:
    save(tmp_path, "qwen3_moe")
    model = build(tmp_path)
    seen: list[tuple[int, int]] = []
    load_weights(model, tmp_path, num_readers=num_readers, progress=lambda *report: seen.append(report))
    assert_same({name: parameter.data for name, parameter in model.parameters.items()}, loaded(tmp_path))
    done, total = zip(*seen, strict=True)
    assert list(done) == sorted(set(done))
    assert done[-1] == total[-1] == len(load_file(tmp_path / "model.safetensors"))


def test_what_breaks_in_one_reader_ends_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    whole = Checkpoint.read

    def breaks(self: Checkpoint, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in whole(self, names):
            if name == "model.norm.weight":
                raise ModelError(f"cannot read '{self.tensors[name].file}': the disk is gone")
            yield name, tensor

    monkeypatch.setattr(Checkpoint, "read", breaks)
    with pytest.raises(ModelError, match=r"cannot read '.*model\.safetensors': the disk is gone"):
        load_weights(build(tmp_path), tmp_path, num_readers=3)


def test_groups_for_readers_lie_in_one_file_and_hold_every_tensor_once(tmp_path: Path) -> None:
    save(tmp_path, "qwen3_moe")
    tensors = load_file(tmp_path / "model.safetensors")
    names = sorted(tensors)
    for file, half in (("a", names[::2]), ("b", names[1::2])):
        save_file({name: tensors[name] for name in half}, tmp_path / f"{file}.safetensors")
    (tmp_path / "model.safetensors").unlink()
    checkpoint = Checkpoint.open(tmp_path)
    groups = checkpoint.parts(names, 6)
    assert sorted(name for group in groups for name in group) == names
    assert 6 <= len(groups) <= 8
    assert all(len({checkpoint.tensors[name].file for name in group}) == 1 for group in groups)


def test_an_update_gives_the_weights_of_a_fresh_load_at_the_same_addresses(tmp_path: Path) -> None:
    save(tmp_path / "old", "qwen3_vl_moe")
    save(tmp_path / "new", "qwen3_vl_moe", seed=1)
    model = build(tmp_path / "old")
    load_weights(model, tmp_path / "old")
    addresses = {name: parameter.data.data_ptr() for name, parameter in model.parameters.items()}
    update_weights(model, tmp_path / "new")
    assert_same({name: parameter.data for name, parameter in model.parameters.items()}, loaded(tmp_path / "new"))
    assert addresses == {name: parameter.data.data_ptr() for name, parameter in model.parameters.items()}


def drop_a_tensor(path: Path) -> None:
    rewrite(path, lambda t: {name: x for name, x in t.items() if name != "model.norm.weight"})


def change_a_size(path: Path) -> None:
    save(path, intermediate_size=80, seed=1)


def change_the_depth(path: Path) -> None:
    save(path, num_hidden_layers=2, seed=1)


def change_the_family(path: Path) -> None:
    save(path, "llama", seed=1)


def truncate_the_file(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_a_tensor, r"1 missing: model\.norm\.weight"),
        (change_a_size, "of another shape"),
        (change_the_depth, "num_layers is 2, not 3"),
        (change_the_family, "architectures is"),
        (truncate_the_file, "not a valid safetensors file"),
    ],
)
def test_a_failed_update_keeps_the_old_weights(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    save(tmp_path / "old")
    save(tmp_path / "new", seed=1)
    spoil(tmp_path / "new")
    model = build(tmp_path / "old")
    load_weights(model, tmp_path / "old")
    before = {name: parameter.data.clone() for name, parameter in model.parameters.items()}
    with pytest.raises(ModelError, match=message):
        update_weights(model, tmp_path / "new")
    assert_same({name: parameter.data for name, parameter in model.parameters.items()}, before)


def test_an_update_that_fails_while_reading_keeps_the_old_weights(tmp_path: Path) -> None:
    save(tmp_path / "old")
    save(tmp_path / "new", seed=1)
    model = build(tmp_path / "old")
    load_weights(model, tmp_path / "old")
    before = {name: parameter.data.clone() for name, parameter in model.parameters.items()}

    def stop_halfway(done: int, total: int) -> None:
        if done == total // 2:
            raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        update_weights(model, tmp_path / "new", progress=stop_halfway)
    assert_same({name: parameter.data for name, parameter in model.parameters.items()}, before)


def test_a_model_does_not_run_before_its_layers_are_bound(tmp_path: Path) -> None:
    save(tmp_path)
    model = build(tmp_path)
    with pytest.raises(RuntimeError, match=r"qkv_proj was used before BuildContext\.finalize"):
        model.linears["model.layers.0.self_attn.qkv_proj"].forward(torch.zeros(1, 64), None)
