"""What a server's intake is made of."""

from __future__ import annotations

import logging

import msgspec
import pytest

from hookline.config.engine_plan import EnginePlan
from hookline.errors import PluginError, RequestError
from hookline.media.factory import build_intake, build_processor
from hookline.testkit.plans import chosen, make_plan
from tests.factories.media_processor import ToyProcessor


def _plan(plan: EnginePlan, processor: str | None) -> EnginePlan:
    model = msgspec.structs.replace(
        chosen("models", "toy", "tests.factories.media_processor:ToyProcessor"), details={"processor": processor}
    )
    return make_plan(plan.model_dir, plugins=[model])


def test_a_model_without_a_processor_takes_text_only(plan: EnginePlan) -> None:
    assert build_processor(_plan(plan, None), None) is None
    assert build_processor(make_plan(plan.model_dir), None) is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tests.factories.media_processor:Nothing", "does not load"),
        ("tests.factories.pictures:image_file", "must be a subclass of MultimodalProcessor"),
    ],
)
def test_a_processor_that_is_none(plan: EnginePlan, target: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        build_processor(_plan(plan, target), None)


def test_without_a_tokenizer_texts_cannot_grow(plan: EnginePlan) -> None:
    processor = build_processor(plan, None)
    assert isinstance(processor, ToyProcessor)
    with pytest.raises(RequestError, match="skip_tokenizer_init"):
        processor.expand("<image>", [])


async def test_the_pool_is_no_larger_than_shared_memory(
    plan: EnginePlan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    processor = build_processor(plan, None)
    assert processor is not None
    monkeypatch.setattr("hookline.media.factory.free_bytes", lambda: 1000)
    with caplog.at_level(logging.WARNING):
        assert build_intake(plan, processor).pool.max_bytes == 900
    assert "--shm-size" in caplog.text
    monkeypatch.setattr("hookline.media.factory.free_bytes", lambda: 1 << 40)
    assert build_intake(plan, processor).pool.max_bytes == 4 << 30
