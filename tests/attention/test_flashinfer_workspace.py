"""Memory for FlashInfer's plans: enough of it, and never one piece for two plans at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hookline_attention.flashinfer_attention.workspace import StagingMemory, Workspaces, float_bytes

MIB = 1 << 20


class FakeEvent:
    """A CUDA event whose copy is under way until somebody waits for it."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def record(self) -> None:
        self._log.append("sent")

    def synchronize(self) -> None:
        self._log.append("waited")


def test_memory_is_used_again_only_when_its_copy_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    empty = torch.empty

    def unpinned(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        assert pin_memory, "a copy from other memory makes the host wait"
        return empty(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.cuda, "Event", lambda: FakeEvent(log))
    staging = StagingMemory(torch.device("cuda"), turns=2)
    taken = []
    for _ in range(4):
        taken.append(staging.take().data_ptr())
        staging.sent()
    assert taken == [taken[0], taken[1]] * 2
    assert taken[0] != taken[1]
    assert log == ["sent", "sent", "waited", "sent", "waited", "sent"]


def test_a_plan_that_failed_leaves_its_turn() -> None:
    staging = StagingMemory(torch.device("cpu"), turns=2)
    first = staging.take()
    assert staging.take().data_ptr() == first.data_ptr()


def test_kinds_of_layers_have_plans_of_their_own() -> None:
    workspaces = Workspaces(torch.device("cpu"), MIB)
    assert workspaces.plan_memory(0).data_ptr() == workspaces.plan_memory(0).data_ptr()
    assert workspaces.plan_memory(0).data_ptr() != workspaces.plan_memory(1).data_ptr()


def test_floats_grow_and_never_shrink() -> None:
    workspaces = Workspaces(torch.device("cpu"), MIB)
    before = workspaces.floats
    workspaces.grow(MIB)
    assert workspaces.floats is before
    workspaces.grow(2 * MIB)
    assert workspaces.floats.numel() == 2 * MIB


@pytest.mark.parametrize(
    ("heads", "captured", "least"),
    [
        # 2 blocks on each of 132 multiprocessors, shared by the key-value heads, with tiles of 128 rows.
        ((32, 4), 1, 32 * 66 * 128 * 128 * 4),
        ((16, 8), 1, 16 * 33 * 128 * 128 * 4),
        # A captured decode has a tile of 16 rows for each request, and one for 16 rows of all of them.
        ((16, 8), 512, 16 * (512 * 2 // 16 + 511) * 16 * 128 * 4),
        ((64, 1), 64, 64 * (64 * 64 // 64 + 63) * 64 * 128 * 4),
    ],
)
def test_partial_results_fit(heads: tuple[int, int], captured: int, least: int) -> None:
    needed = float_bytes(*heads, 128, captured_batch=captured, num_sms=132)
    assert needed > least
    assert needed % MIB == 0
