"""The packed forward computes what transformers computes."""

from __future__ import annotations

import pytest
import torch

from training.batches import BatchPlan, Wire, make_batch, pack
from training.checkpoint import new_model
from training.draw import Draw, Split
from training.encode import Encoder
from training.packed import PackedModel, _Permute
from training.pixels import normalise
from training.tasks.registry import all_tasks

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["two_pictures", "clip", "tool_result"])
def test_packed_logits_equal_those_of_transformers(name: str) -> None:
    torch.manual_seed(0)
    model = new_model().eval()
    encoder, tasks = Encoder(), all_tasks()
    row = encoder.encode(tasks[name].make(Draw("packed", Split.TRAIN)), thinking=True)
    other = encoder.encode(tasks["talk"].make(Draw("packed", Split.TRAIN)), thinking=False)
    batch = Wire.of(pack([row, other])).batch(CPU)
    batch.predict = torch.arange(len(row.ids))
    ids = torch.from_numpy(row.ids)[None]
    pads = {encoder.tokenizer.token_to_id("<|image_pad|>"): 1, encoder.tokenizer.token_to_id("<|video_pad|>"): 2}
    inputs = {"mm_token_type_ids": torch.tensor([[pads.get(i, 0) for i in row.ids.tolist()]])}
    if row.media:
        kind = ("pixel_values_videos", "video_grid_thw") if row.media[0].is_clip else ("pixel_values", "image_grid_thw")
        inputs[kind[0]] = torch.cat([normalise(torch.from_numpy(media.patches)) for media in row.media])
        inputs[kind[1]] = torch.tensor([media.grid for media in row.media])
    with torch.inference_mode():
        expected = model(input_ids=ids, **inputs).logits[0]
        logits, _ = PackedModel(model)(batch)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_batch_depends_on_its_number_only() -> None:
    plan = BatchPlan(seed="test", size=8)
    first, again = (make_batch(plan, 3, Encoder()) for _ in range(2))
    assert torch.equal(first.ids, again.ids)
    assert not torch.equal(first.ids[:50], make_batch(plan, 4, Encoder()).ids[:50])


def test_only_the_answers_are_predicted() -> None:
    encoder = Encoder()
    item = all_tasks()["facts"].make(Draw("answers", Split.TRAIN))
    batch = pack([encoder.encode(item, thinking=True)])
    text = encoder.tokenizer.decode(batch.labels.tolist(), skip_special_tokens=False)
    assert text == f"<think>\n{item.thought}\n</think>\n\n{item.reply}<|im_end|>"


def test_permuted_rows_have_the_gradient_of_their_selection() -> None:
    rows = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    order = torch.randperm(7)
    back = torch.empty_like(order)
    back[order] = torch.arange(7)
    weights = torch.randn(7, 3, dtype=torch.float64)
    permuted = _Permute.apply(rows, order, back)
    assert torch.equal(permuted, rows[order])
    (got,) = torch.autograd.grad((permuted * weights).sum(), rows)
    (expected,) = torch.autograd.grad((rows[order] * weights).sum(), rows)
    assert torch.equal(got, expected)
