"""Which attention backend runs an encoder's heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hookline.batch.encoder_orders import EncoderOrders
from hookline.config.engine_plan import EnginePlan
from hookline.interfaces.attention import AttentionBackend, AttentionEnv
from hookline.worker.encoder_store import EncoderStore
from hookline.worker.factory import build_worker
from hookline_attention.torch_native import TorchNativeAttention
from tests.factories.vision import make_vision_checkpoint
from tests.factories.worker_plans import make_plan
from tests.factories.worker_platforms import LatePlatform


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tower has heads of 16, as its decoder has."""
    return make_vision_checkpoint(tmp_path_factory.mktemp("vision"))


def heads_of(plan: EnginePlan, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(heads, page size) of each backend that a worker makes."""
    made: list[tuple[int, int]] = []
    start = AttentionBackend.__init__

    def note(backend: AttentionBackend, env: AttentionEnv) -> None:
        made.append((env.num_q_heads, env.page_size))
        start(backend, env)

    monkeypatch.setattr(AttentionBackend, "__init__", note)
    build_worker(plan).close()
    return made


def changed(plan: EnginePlan, *, to_spare: bool = False, **changes: Any) -> EnginePlan:
    """The plan whose attention backend is another one; ``to_spare``: the old one would have done."""
    old = plan.plugins.one("attention_backends")
    others = [spec for spec in plan.plugins.chosen if spec is not old]
    plugins = msgspec.structs.replace(
        plan.plugins,
        chosen=[*others, msgspec.structs.replace(old, **changes)],
        spare=[old] if to_spare else [],
    )
    return msgspec.structs.replace(plan, plugins=plugins)


def test_the_chosen_backend_runs_the_encoder_too(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(checkpoint, cache={"page_size": 16})
    assert issubclass(plan.plugins.load(plan.plugins.one("attention_backends")), TorchNativeAttention)
    assert heads_of(plan, monkeypatch) == [(2, 1), (4, 16)]


@pytest.mark.parametrize("changes", [{"features": ["mixed"]}, {"head_dims": [64, 128]}])
def test_one_that_cannot_leaves_it_to_another_or_to_torch(
    changes: dict[str, Any], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(checkpoint)
    assert heads_of(changed(plan, to_spare=True, **changes), monkeypatch) == [(2, 1), (4, 1)]
    monkeypatch.undo()
    assert heads_of(changed(plan, **changes), monkeypatch) == [(4, 1)]


def test_torch_can_be_asked_for(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(checkpoint, multimodal={"encoder_attention": "torch"})
    assert heads_of(plan, monkeypatch) == [(4, 1)]


def test_the_encoder_is_measured_where_memory_is_counted(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[int] = []
    carry_out = EncoderStore.carry_out

    def note(store: EncoderStore, orders: EncoderOrders, items: Any) -> None:
        costs.extend(item.cost for item in orders.encode)
        carry_out(store, orders, items)

    monkeypatch.setattr(EncoderStore, "carry_out", note)
    build_worker(make_plan(checkpoint, multimodal={"encoder_patch_budget": 40}), platform=LatePlatform()).close()
    assert costs == [36]
