"""LLaVA in the engine against transformers: the hooks are not shaped like one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hookline.messages.requests import MultimodalInputs
from hookline.testkit.checkpoints import write_small_checkpoint
from hookline.testkit.media_prompts import MediaPrompt
from tests.factories.llava import llava_config, llava_logits, llava_prompt
from tests.factories.vision import VisionPrompt, media_item
from tests.factories.vision_engine import VisionEngine

STEPS = 10
EOS = 2


def as_request(prompt: MediaPrompt, count: int) -> VisionPrompt:
    """The prompt with ``count`` of its pictures."""
    end = prompt.expanded.spans[count - 1][0]
    ids = prompt.input_ids[: sum(end) + 2]
    items = [
        media_item(kind, item, spans)
        for (kind, item), spans in zip(prompt.items[:count], prompt.expanded.spans[:count], strict=True)
    ]
    expanded = type(prompt.expanded)(input_ids=ids, spans=prompt.expanded.spans[:count])
    return VisionPrompt(expanded, [], MultimodalInputs(items=items))


@pytest.mark.parametrize("tower", ["clip", "siglip"])
@pytest.mark.parametrize("settings", [{}, {"chunked_prefill_size": 5, "embedding_cache_gib": 0.0}, {"page_size": 16}])
def test_greedy_output_is_that_of_transformers(tower: str, settings: dict[str, Any], tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path, architecture="LlavaForConditionalGeneration", hf_config=llava_config(tower))
    prompt = llava_prompt(tmp_path)
    requests = [as_request(prompt, 2), as_request(prompt, 1)]
    engine = VisionEngine(tmp_path, **settings)
    outputs = engine.generate(requests, STEPS)
    assert engine.generate(requests, STEPS) == outputs
    engine.close()
    for count, request, output in zip((2, 1), requests, outputs, strict=True):
        whole = MediaPrompt(request.expanded, prompt.items[:count])
        logits = llava_logits(tmp_path, whole, output)[len(request.input_ids) - 1 : -1].clone()
        logits[:, EOS] = float("-inf")
        chosen = logits.gather(1, torch.tensor(output)[:, None])[:, 0]
        assert float((logits.max(dim=-1).values - chosen).max()) < 1e-3
