"""EncoderStore: rows are made, moved, dropped and placed as ordered; what fails is told and harms nobody else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from hookline.batch.encoder_orders import EncoderOrders, MediaRun
from hookline.interfaces.multimodal import EncoderInput, EncoderItem
from hookline.platform import CpuPlatform
from hookline.worker.encoder_store import EncoderStore

WIDTH = 3


class Doubler:
    """Stands for a model: a row is twice the item's number; negative numbers cannot be encoded."""

    encoder_row_size = WIDTH

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, items: Sequence[EncoderInput]) -> list[torch.Tensor]:
        self.batches.append(len(items))
        rows = []
        for item in items:
            number = float(item.tensors["number"][0])
            if number < 0:
                raise ValueError(f"{number} is negative")
            count = item.num_rows + int(number == 99)
            rows.append(torch.full((count, WIDTH), 2 * number) + torch.arange(count)[:, None])
        return rows


def item(number: int, num_rows: int = 4) -> EncoderItem:
    tensors = {"number": np.array([number], dtype=np.int16)}
    return EncoderItem(kind="image", digest=digest(number), tensors=tensors, grid=(1,), num_rows=num_rows, cost=4)


def digest(number: int) -> bytes:
    return str(number).encode().rjust(32)


def run(number: int, first_row: int, num_rows: int, place: int = 0) -> MediaRun:
    return MediaRun(digest=digest(number), first_row=first_row, num_rows=num_rows, place=place)


@pytest.fixture
def model() -> Doubler:
    return Doubler()


@pytest.fixture
def store(model: Doubler) -> EncoderStore:
    return EncoderStore(model, CpuPlatform(threads=1), torch.float32)  # type: ignore[arg-type]


def encode(store: EncoderStore, *items: EncoderItem) -> None:
    store.carry_out(EncoderOrders(encode=items), store.copy_in(items))


def test_runs_are_placed_in_their_order(store: EncoderStore, model: Doubler) -> None:
    encode(store, item(1), item(5))
    places = torch.tensor([2, 3, 7])
    rows, faults = store.place([run(5, 2, 2, 2), run(1, 0, 1, 7)], places)
    assert rows.rows[:, 0].tolist() == [12.0, 13.0, 2.0]
    assert rows.places is places
    assert faults == {}
    assert model.batches == [2]


def test_the_senders_arrays_may_go_before_the_queue_comes_to_them(store: EncoderStore) -> None:
    one = item(3)
    copied = store.copy_in([one])
    np.asarray(one.tensors["number"])[:] = -1
    store.carry_out(EncoderOrders(encode=[one]), copied)
    assert store.place([run(3, 0, 1)], torch.tensor([0]))[0].rows[0, 0] == 6.0


def test_rows_on_the_host_are_placed_too_and_dropped_ones_are_missed(store: EncoderStore) -> None:
    encode(store, item(1), item(2))
    store.carry_out(EncoderOrders(offload=[digest(1)], drop=[digest(2)]), [])
    rows, faults = store.place([run(1, 1, 2), run(2, 0, 1)], torch.tensor([0, 1, 2]))
    assert rows.rows[:, 0].tolist() == [3.0, 4.0, 0.0]
    assert list(faults) == [digest(2)]


def test_one_item_that_fails_does_not_harm_the_others_of_its_batch(store: EncoderStore, model: Doubler) -> None:
    encode(store, item(1), item(-7), item(2))
    assert model.batches == [3, 1, 1, 1]
    rows, faults = store.place([run(1, 0, 1), run(-7, 0, 2), run(2, 0, 1)], torch.arange(4))
    assert rows.rows[:, 0].tolist() == [2.0, 0.0, 0.0, 4.0]
    assert faults == {digest(-7): "the encoder failed for the image of grid (1,): ValueError: -7.0 is negative"}


def test_a_model_that_makes_too_many_rows_is_told_of(store: EncoderStore) -> None:
    encode(store, item(99))
    _, faults = store.place([run(99, 0, 1)], torch.tensor([0]))
    assert "the model made rows [5, 3] of an item that has [4, 3]" in faults[digest(99)]


def test_rows_of_one_item_do_not_keep_those_of_its_batch_alive(store: EncoderStore, model: Doubler) -> None:
    whole = torch.zeros(8, WIDTH)
    model.encode = lambda items: list(whole.split([item.num_rows for item in items]))  # type: ignore[method-assign]
    encode(store, item(1), item(2))
    rows, _ = store.place([run(1, 0, 4)], torch.arange(4))
    assert rows.rows.untyped_storage().nbytes() == 4 * WIDTH * 4
