"""Pictures and clips against transformers: greedy output is the argmax of its logits, however it is scheduled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hookline_models.qwen3_vl.processor import Qwen3VLProcessor
from tests.factories.vision import (
    CLIP,
    PICTURE,
    PromptMaker,
    VisionPrompt,
    clip,
    make_vision_checkpoint,
    picture,
    qwen_inputs,
)
from tests.factories.vision_engine import VisionEngine

STEPS = 12
EOS = 4072
TOLERANCE = 1e-3

CASES: dict[str, tuple[str, list[Any]]] = {
    "one picture": (f"Look: {PICTURE} What is it?", [picture(1)]),
    "several": (f"{PICTURE}{PICTURE} and {PICTURE}", [picture(1), picture(2, 96, 64), picture(3, 128, 128)]),
    "odd sizes": (f"a {PICTURE} b {PICTURE}", [picture(4, 71, 133), picture(5, 97, 65)]),
    "clip of odd length": (f"See {CLIP} now", [clip(6, frames=5)]),
    "two clips": (f"{CLIP} then {CLIP}", [clip(7, frames=4), clip(8, frames=6, width=96)]),
    "picture and clip": (f"{PICTURE} and {CLIP} and {PICTURE}", [picture(1), clip(6, frames=5), picture(9)]),
    "earlier turn": (
        f"<|im_start|>user\n{PICTURE}What?<|im_end|>\n<|im_start|>assistant\nA circle.<|im_end|>\n"
        "<|im_start|>user\nWhat colour does it have, do you think?<|im_end|>\n<|im_start|>assistant\n",
        [picture(1)],
    ),
    "text only": ("Once upon a time there was a text without any picture.", []),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def make(family: str) -> Path:
        return make_vision_checkpoint(tmp_path_factory.mktemp(family), family)

    return make


def prompts_of(path: Path) -> dict[str, VisionPrompt]:
    make = PromptMaker(path, Qwen3VLProcessor)
    return {name: make(text, *media) for name, (text, media) in CASES.items()}


@cache
def reference(path: Path) -> Any:
    return transformers.AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()


@torch.inference_mode()
def assert_greedy(path: Path, prompt: VisionPrompt, output: list[int]) -> None:
    """Each output token is the reference's best one, given the tokens before it."""
    assert len(output) == STEPS
    logits = reference(path)(**qwen_inputs(prompt, output)).logits[0, len(prompt.input_ids) - 1 : -1].clone()
    logits[:, EOS] = float("-inf")
    chosen = logits.gather(1, torch.tensor(output)[:, None])[:, 0]
    worst = (logits.max(dim=-1).values - chosen).max().item()
    assert worst < TOLERANCE, f"a token was {worst} below the best"


@pytest.mark.parametrize("family", ["qwen3_vl_moe", "qwen3_vl"])
def test_greedy_output_is_that_of_transformers(family: str, checkpoint: Callable[[str], Path]) -> None:
    path = checkpoint(family)
    prompts = prompts_of(path)
    engine = VisionEngine(path)
    outputs = engine.generate(list(prompts.values()), STEPS)
    again = engine.generate(list(prompts.values()), STEPS)
    state = engine.state
    engine.close()
    for prompt, output in zip(prompts.values(), outputs, strict=True):
        assert_greedy(path, prompt, output)
    assert again == outputs
    # Equal pictures are one item, in whatever prompt they stand; the second time everything was there.
    digests = {item.digest for prompt in prompts.values() for item in prompt.inputs.items}
    assert state["media_encoded_total"] == len(digests)
    assert state["media_items_total"] == 2 * sum(len(prompt.inputs.items) for prompt in prompts.values())


@pytest.fixture(scope="module")
def expected(checkpoint: Callable[[str], Path]) -> Iterator[list[list[int]]]:
    engine = VisionEngine(checkpoint("qwen3_vl_moe"))
    yield engine.generate(list(prompts_of(checkpoint("qwen3_vl_moe")).values()), STEPS)
    engine.close()


VARIANTS: dict[str, dict[str, Any]] = {
    "page 16": {"page_size": 16},
    "chunks of 1": {"chunked_prefill_size": 1},
    "chunks of 5": {"chunked_prefill_size": 5},
    "chunks of 16, mixed": {"chunked_prefill_size": 16, "enable_mixed_chunk": True},
    "no overlap": {"disable_overlap_schedule": True},
    "no overlap, chunks of 7": {"disable_overlap_schedule": True, "chunked_prefill_size": 7},
    "no prefix cache": {"enable_prefix_cache": False},
    "no room for rows": {"embedding_cache_gib": 0.0, "chunked_prefill_size": 8},
    "one item at a time": {"encoder_patch_budget": 1},
    "attention of the tower on torch": {"encoder_attention": "torch"},
    "small pool, retraction": {"kv_cache_tokens": 160, "schedule_conservativeness": 0.05, "chunked_prefill_size": 32},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_output_does_not_depend_on_the_schedule(
    variant: str, checkpoint: Callable[[str], Path], expected: list[list[int]]
) -> None:
    path = checkpoint("qwen3_vl_moe")
    prompts = list(prompts_of(path).values())
    engine = VisionEngine(path, **VARIANTS[variant])
    cold = engine.generate(prompts, STEPS)
    warm = engine.generate(prompts, STEPS)
    state = engine.state
    engine.close()
    assert cold == expected
    assert warm == expected
    if "retraction" in variant:
        assert state["num_retractions_total"] > 0


@pytest.mark.parametrize("page_size", [1, 16])
def test_a_prefix_that_ends_inside_a_picture_is_used(page_size: int, checkpoint: Callable[[str], Path]) -> None:
    path = checkpoint("qwen3_vl_moe")
    make = PromptMaker(path, Qwen3VLProcessor)
    shared = picture(1, 128, 128)
    one, other = make(f"Look: {PICTURE}", shared), make(f"Look: {PICTURE} and so on", shared)
    engine = VisionEngine(path, page_size=page_size)
    engine.generate([one], STEPS)
    output = engine.generate([other], STEPS)[0]
    cached = engine.stats["r1"].cached_tokens
    engine.close()
    start, length = other.expanded.spans[0][0]
    if page_size > 1:
        assert start < cached < start + length
    assert_greedy(path, other, output)
