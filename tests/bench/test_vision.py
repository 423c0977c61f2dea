"""``hookline bench vision`` on a tiny model, from the command to the report, and what its figures rest on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from hookline.bench.encoder import tower_flops
from hookline.bench.model_shapes import MODEL_SHAPES
from hookline.bench.pictures import PicturePrompts, PictureSource
from hookline.errors import ConfigError
from tests.factories.checkpoints import make_checkpoint
from tests.factories.demo_server import hookline

_SHAPE = MODEL_SHAPES["qwen3-vl-30b-a3b"]
#: What makes the shape tiny.
_TEXT = {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "num_hidden_layers": 4}
_TEXT |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4, "vocab_size": 512}
_TEXT |= {"num_experts_per_tok": 2, "max_position_embeddings": 2048, "bos_token_id": 504, "eos_token_id": 505}
_ROPE = {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"}
_VISION: dict[str, Any] = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
}
_VISION |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
_IDS = {"vision_start_token_id": 506, "vision_end_token_id": 507, "image_token_id": 508, "video_token_id": 509}


def _tiny() -> dict[str, Any]:
    text = {**_SHAPE["text_config"], **_TEXT, "rope_scaling": _ROPE}
    return {**_SHAPE, **_IDS, "text_config": text, "vision_config": {**_SHAPE["vision_config"], **_VISION}}


def test_the_command_measures_a_server_the_encoder_and_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(_tiny()))
    sizes = ("--layers", "2", "--size", "64", "--pictures", "1", "--pictures", "2", "--requests", "3")
    lengths = ("--output-len", "3", "--stream-len", "8", "--repetitions", "1")
    file = tmp_path / "report.json"
    done = hookline(
        "bench", "vision", str(tmp_path), *sizes, *lengths, "--baseline", "--output", str(file), timeout=180
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(file.read_text())
    served, encoder, theirs = shown["served"], shown["encoder"], shown["transformers"]
    assert (shown["layers"], shown["size"]) == (2, 64)
    assert set(served["first_token"]) == {"1", "2"}
    assert set(served["repeated"]) == {"new", "same text", "different text"}
    assert all(seconds > 0 for seconds in [*served["first_token"].values(), *served["repeated"].values()])
    assert set(served["inter_token_ms"]) == {"alone", "with pictures"}
    # 64 x 64 are enlarged to the least size of the family's processor, 256 x 256.
    assert (encoder["patches"], encoder["rows"]) == (256, 64)
    assert encoder["flops"] == tower_flops(_tiny()["vision_config"], 256)
    assert (theirs["num_concurrent"], theirs["batch"]) == (3, 3)
    rows = {row["what"]: row for row in shown["results"]}
    assert rows["encoder, 2 in a row"]["hookline"] == pytest.approx(2 / encoder["seconds"]["2"], abs=1e-3)
    first = rows["first token, 1 new"]
    assert first["ratio"] == pytest.approx(theirs["first_token"] / served["first_token"]["1"], abs=0.01)
    at_once = rows["3 requests at once"]
    assert at_once["hookline"] == pytest.approx(3 / served["concurrent_seconds"], abs=1e-3)
    assert at_once["transformers"] == pytest.approx(3 / theirs["concurrent_seconds"], abs=1e-3)
    # The table says the same.
    assert f"{first['hookline']}" in done.stdout


def test_a_model_without_pictures_is_refused(tmp_path: Path) -> None:
    done = hookline("bench", "vision", str(make_checkpoint(tmp_path, "llama")))
    assert done.returncode == 1
    assert "takes no pictures" in done.stderr


def test_operations_of_the_tower_are_those_that_torch_counts() -> None:
    values = _tiny()["vision_config"]
    config = Qwen3VLVisionConfig(**values)
    config._attn_implementation = "eager"
    tower = Qwen3VLVisionModel(config).eval()
    grid = torch.tensor([[1, 8, 12]])
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        tower(torch.zeros(96, 3 * 2 * 16 * 16), grid_thw=grid)
    # Its rotary positions are a small product that we look up.
    assert tower_flops(values, 96) == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert tower_flops({"hidden_size": 32}, 96) is None


def test_the_shape_has_as_many_parameters_as_the_model_that_it_stands_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(_SHAPE))
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tmp_path))
    assert type(model).__name__ == _SHAPE["architectures"][0]
    # As the model card says: 31 billion.
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(31.07e9, rel=1e-3)


def test_every_picture_is_a_new_file_with_pixels_that_any_decoder_reads() -> None:
    source = PictureSource(48)
    files = [source.new() for _ in range(9)]
    assert len(set(files)) == 9
    pixels = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    assert pixels[0].shape == (48, 48, 3)
    np.testing.assert_array_equal(pixels[0], pixels[4])
    assert (pixels[0] != pixels[1]).any()


def test_prompts_hold_one_placeholder_for_each_picture() -> None:
    prompts = PicturePrompts(_SHAPE)
    ids = prompts.ids(3)
    assert ids.count(151655) == ids.count(151652) == ids.count(151653) == 3
    place = ids.index(151655)
    assert ids[place - 1 : place + 2] == [151652, 151655, 151653]
    assert PicturePrompts({"image_token_index": 7, "vocab_size": 30}).ids(1, before=[], rows=5)[:5] == [7] * 5
    with pytest.raises(ConfigError, match="takes no pictures"):
        PicturePrompts({"vocab_size": 30})
