"""Pictures that come and go in an engine with a real model: nothing leaks, and nobody else notices."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hookline.batch.encoder_orders import EncoderOrders
from hookline.worker.worker import LocalWorker
from hookline_models.qwen3_vl.processor import Qwen3VLProcessor
from tests.factories.vision import CLIP, DEMO, PICTURE, PromptMaker, VisionPrompt, clip, picture
from tests.factories.vision_engine import VisionEngine


@pytest.fixture(scope="module")
def make() -> PromptMaker:
    return PromptMaker(DEMO, Qwen3VLProcessor)


def mixed(make: PromptMaker, count: int) -> list[VisionPrompt]:
    """Prompts with pictures of few kinds, so that some share them, with clips, and with none."""
    found = []
    for number in range(count):
        if number % 5 == 4:
            found.append(make(f"text number {number}"))
        elif number % 7 == 6:
            found.append(make(f"{number}: {CLIP}?", clip(number % 3, frames=4)))
        else:
            found.append(make(f"{number}: {PICTURE} {PICTURE}", picture(number % 4), picture(number % 3, 80, 64)))
    return found


def test_requests_that_end_at_any_time_leave_nothing_behind(make: PromptMaker) -> None:
    prompts = mixed(make, 32)
    engine = VisionEngine(DEMO, encoder_patch_budget=30, chunked_prefill_size=16, embedding_cache_gib=0.0)
    expected = [engine.generate([prompt], 6, ignore_eos=True)[0] for prompt in prompts]
    rng = random.Random(3)
    for _ in range(3):
        gone = set(rng.sample(range(32), 16))
        outputs = engine.generate(prompts, 6, ignore_eos=True, abort={i: rng.randrange(12) for i in gone})
        for i, output in enumerate(outputs):
            if i not in gone:
                assert output == expected[i], i
    state = engine.state
    assert state["num_running"] == state["num_waiting"] == state["num_gated"] == 0
    assert state["protected_slots"] == state["ledger_violations"] == 0
    assert state["embedding_bytes"] == 0
    engine.close()


def broken(prompt: VisionPrompt) -> VisionPrompt:
    """The same prompt, whose first picture's patches do not make its grid."""
    first = prompt.inputs.items[0]
    tensor = first.tensors[0]
    shorter = msgspec.structs.replace(tensor, shape=(tensor.shape[0] - 1, tensor.shape[1]), data=tensor.data[:-1])
    item = msgspec.structs.replace(first, digest=bytes(32), tensors=[shorter])
    inputs: Any = msgspec.structs.replace(prompt.inputs, items=[item, *prompt.inputs.items[1:]])
    return VisionPrompt(prompt.expanded, prompt.media, inputs)


def test_a_picture_that_cannot_be_encoded_ends_its_request_alone(make: PromptMaker, tmp_path: Path) -> None:
    prompts = mixed(make, 4)
    engine = VisionEngine(DEMO)
    expected = engine.generate(prompts, 6, ignore_eos=True)
    engine.close()
    engine = VisionEngine(DEMO)
    outputs = engine.generate([prompts[0], broken(prompts[1]), *prompts[2:]], 6, ignore_eos=True)
    assert outputs == [expected[0], [], *expected[2:]]
    finish = engine.finishes["r1"]
    assert (finish.status_code, finish.code) == (500, "unusable_output")
    assert "23 patches do not make a grid of 1 x 4 x 6" in finish.message
    assert engine.generate([prompts[1]], 6, ignore_eos=True) == [expected[1]]
    assert engine.state["protected_slots"] == 0
    engine.close()


def test_a_text_stream_goes_on_while_clips_are_encoded(make: PromptMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of its tokens there is at most one portion of the encoder's work."""
    costs: list[int] = []
    encode = LocalWorker.encode

    def counting(worker: LocalWorker, orders: EncoderOrders) -> None:
        costs.append(sum(item.cost for item in orders.encode))
        encode(worker, orders)

    monkeypatch.setattr(LocalWorker, "encode", counting)
    engine = VisionEngine(DEMO, encoder_patch_budget=16, enable_prefix_cache=False)
    clips = [make(f"{number} {CLIP}", clip(number, frames=8, height=96, width=96)) for number in range(4)]
    steps = []
    for tokens in engine.watch(make("count to ten"), 60, joined_by=clips):
        steps.append((tokens, sum(costs)))
        costs.clear()
    engine.close()
    largest = max(item.cost for one in clips for item in one.inputs.items)
    assert max(patches for _, patches in steps) <= largest
    encoding = [number for number, (_, patches) in enumerate(steps) if patches]
    assert len(encoding) == 4
    for one, other in pairwise(encoding):
        assert sum(tokens for tokens, _ in steps[one + 1 : other + 1]) >= 1
