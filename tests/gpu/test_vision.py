"""Pictures on a CUDA device: rows and logits as transformers has them, at the width of the largest model too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hookline.batch.encoder_orders import EncoderOrders
from hookline.interfaces.multimodal import EncoderItem
from hookline.testkit.checkpoints import write_small_checkpoint
from hookline.testkit.media_prompts import prompt_logits
from hookline.testkit.model_harness import ModelHarness
from hookline.worker.factory import build_worker
from hookline.worker.worker import LocalWorker
from hookline_models.qwen3_vl.processor import Qwen3VLProcessor
from tests.factories.media_prompts import QWEN3_VL_IDS, qwen3_vl_logits, qwen3_vl_prompt
from tests.factories.vision import CLIP, DEMO, PICTURE, PromptMaker, VisionPrompt, clip, picture, qwen_inputs
from tests.factories.vision_engine import VisionEngine
from tests.factories.worker_plans import make_plan

pytestmark = pytest.mark.gpu

STEPS = 24
#: Logits of two correct float32 implementations differ by rounding only.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def prompts() -> list[VisionPrompt]:
    make = PromptMaker(DEMO, Qwen3VLProcessor)
    return [
        make(f"Look: {PICTURE} What is it?", picture(1, 128, 160)),
        make(f"{PICTURE}{PICTURE} and {PICTURE}", picture(1), picture(2, 96, 64), picture(3, 192, 190)),
        make(f"See {CLIP} now {PICTURE}", clip(6, frames=5), picture(2)),
        make("No picture at all."),
    ]


@pytest.fixture(scope="module")
def reference() -> Any:
    return transformers.AutoModelForImageTextToText.from_pretrained(DEMO, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention_backend": "triton"},
        {"encoder_attention": "torch"},
        {"chunked_prefill_size": 7},
        {"disable_overlap_schedule": True, "disable_cuda_graph": True},
        {"embedding_cache_gib": 0.0, "embedding_host_gib": 1.0, "chunked_prefill_size": 16},
    ],
    ids=str,
)
def test_greedy_output_is_that_of_transformers(
    settings: dict[str, Any], prompts: list[VisionPrompt], reference: Any
) -> None:
    engine = VisionEngine(DEMO, device="cuda", **settings)
    cold = engine.generate(prompts, STEPS, ignore_eos=True)
    warm = engine.generate(prompts, STEPS, ignore_eos=True)
    engine.close()
    for outputs in (cold, warm):
        for prompt, output in zip(prompts, outputs, strict=True):
            assert_greedy(reference, prompt, output)


@torch.inference_mode()
def assert_greedy(reference: Any, prompt: VisionPrompt, output: list[int]) -> None:
    assert len(output) == STEPS
    logits = reference(**qwen_inputs(prompt, output)).logits[0, len(prompt.input_ids) - 1 : -1].clone()
    # The engine holds the end back until it has as many tokens as were asked for.
    logits[:, reference.generation_config.eos_token_id] = float("-inf")
    chosen = logits.gather(1, torch.tensor(output)[:, None])[:, 0]
    assert float((logits.max(dim=-1).values - chosen).max()) < TOLERANCE


def wide_config(*, hidden: int = 4096, heads: int = 64, experts: int = 128, width: int = 1536) -> dict[str, Any]:
    """One language layer and one block of the tower, as wide as those of Qwen3-VL-235B-A22B."""
    return {
        **QWEN3_VL_IDS,
        "text_config": {
            "hidden_size": hidden,
            "num_hidden_layers": 1,
            "num_attention_heads": heads,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": experts,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": width,
            "initializer_range": 0.02,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5000000.0,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [0],
        },
    }


def compare_wide(directory: Path, config: dict[str, Any], device: torch.device) -> None:
    write_small_checkpoint(directory, architecture="Qwen3VLMoeForConditionalGeneration", hf_config=config)
    prompt = qwen3_vl_prompt()
    found = prompt_logits(ModelHarness.load(directory, device=device), prompt, [6]).cpu()
    wanted = qwen3_vl_logits(directory, prompt)
    assert float(wanted.std()) > 0.1
    torch.testing.assert_close(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_layer_and_a_block_of_the_largest_width_are_those_of_transformers(tmp_path: Path) -> None:
    compare_wide(tmp_path, wide_config(), torch.device("cuda"))


@pytest.fixture
def worker() -> Iterator[LocalWorker]:
    plan = make_plan(DEMO, attention="triton", execution={"device": "cuda"}, cache={"kv_cache_tokens": 1024})
    made = build_worker(plan)
    yield made
    made.close()


def test_encoding_never_waits_for_the_device(worker: LocalWorker, caplog: pytest.LogCaptureFixture) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (64, 768), dtype=np.uint8)
    items = [
        EncoderItem(
            kind="image",
            digest=bytes([number]) * 32,
            tensors={"patches": patches},
            grid=(1, 8, 8),
            num_rows=16,
            cost=64,
        )
        for number in range(3)
    ]
    # Kernels are compiled and pinned memory is taken by the first one.
    worker.encode(EncoderOrders(encode=items[:1]))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        worker.encode(EncoderOrders(encode=items[1:], offload=[items[0].digest]))
        worker.encode(EncoderOrders(drop=[items[0].digest]))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    # An encoder that fails harms its items only, and says so.
    assert "the encoder failed" not in caplog.text
