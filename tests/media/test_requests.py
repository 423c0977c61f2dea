"""Requests with media through the tokenizer manager: what the scheduler gets, and when it may be freed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.errors import RequestError
from hookline.frontend.engine_state import EngineState
from hookline.frontend.request_builder import RequestBuilder
from hookline.frontend.tokenizer_manager import TokenizerManager
from hookline.interfaces.api import Chunk, GenerateRequest
from hookline.interfaces.multimodal import IMAGE, MediaInput, ProcessorEnv
from hookline.media.intake import MediaIntake
from hookline.messages.outputs import BatchTextOutput, FinishReason, RequestStats
from hookline.messages.requests import AbortReq, TokenizedRequest
from hookline.messages.segments import Segments
from hookline.observability.metrics import Metrics
from hookline.sampling_params import SamplingParams
from hookline.text.tokenizer import load_tokenizer
from tests.factories.media_processor import HANGS, PICTURE, ToyProcessor
from tests.factories.pictures import image_file

if TYPE_CHECKING:
    from tests.media.conftest import MakeIntake, Shelf


class Scheduler:
    """Keeps what it gets until the test ends it, and reads media when it likes."""

    def __init__(self) -> None:
        self.manager: TokenizerManager | None = None
        self.running: dict[str, TokenizedRequest] = {}
        self.aborted: list[str] = []
        #: Whether requests are answered at once.
        self.is_eager = False

    def send(self, message: Any) -> None:
        if isinstance(message, TokenizedRequest):
            self.running[message.rid] = message
            if self.is_eager:
                asyncio.get_running_loop().call_soon(self.end, message.rid)
        elif isinstance(message, AbortReq):
            self.aborted += message.rids

    def pixels(self, rid: str, item: int = 0) -> np.ndarray:
        inputs = self.running[rid].multimodal
        assert inputs is not None
        return Segments().array(inputs.items[item].tensors[0]).copy()

    def end(self, rid: str, finish: FinishReason = FinishReason(type="stop")) -> None:  # noqa: B008
        request = self.running[rid]
        if request.multimodal is not None:
            # Until now it may have been read.
            self.pixels(rid)
        del self.running[rid]
        assert self.manager is not None
        stats = RequestStats(len(request.input_ids), 0, 1)
        self.manager.handle(
            BatchTextOutput(rids=[rid], texts=["x"], token_ids=[[1]], finish_reasons=[finish], stats=[stats])
        )


class Frontend:
    def __init__(self, plan: EnginePlan, intake: MediaIntake | None) -> None:
        tokenizer = load_tokenizer(plan.tokenizer_path)
        processor = None
        if intake is not None:
            processor = ToyProcessor(ProcessorEnv(model=ModelConfig.load(plan.model_path), tokenize=tokenizer.encode))
        self.scheduler = Scheduler()
        self.intake = intake
        self.metrics = Metrics()
        state = EngineState(health_timeout=60)
        state.ready()
        self.manager = TokenizerManager(
            RequestBuilder(plan, tokenizer, processor),
            self.scheduler,
            state=state,
            metrics=self.metrics,
            max_concurrent_requests=100,
            media=intake,
        )
        self.scheduler.manager = self.manager

    async def ask(self, *media: MediaInput, ids: list[int] | None = None, **fields: Any) -> list[Chunk]:
        params = fields.pop("params", {})
        request = GenerateRequest(
            input_ids=[1, *[PICTURE] * len(media), 2] if ids is None else ids,
            sampling_params=SamplingParams(max_new_tokens=4, **params),
            media=media,
            **fields,
        )
        async with aclosing(self.manager.generate(request)) as chunks:
            return [chunk async for chunk in chunks]

    async def wait_for(self, count: int = 1) -> list[str]:
        while len(self.scheduler.running) < count:
            await asyncio.sleep(0.01)
        return list(self.scheduler.running)


@pytest.fixture
def frontend(plan: EnginePlan, make_intake: MakeIntake) -> Frontend:
    return Frontend(plan, make_intake(max_image_bytes=100_000))


def _noise(seed: int, height: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, (height, 8, 3), dtype=np.uint8)


def _image(seed: int = 0, **more: Any) -> MediaInput:
    return MediaInput(kind=IMAGE, source=image_file(_noise(seed)), **more)


async def test_what_the_scheduler_gets(frontend: Frontend) -> None:
    asking = asyncio.create_task(frontend.ask(_image(1), _image(2), ids=[1, PICTURE, 7, PICTURE, 2]))
    (rid,) = await frontend.wait_for()
    request = frontend.scheduler.running[rid]
    inputs = request.multimodal
    assert inputs is not None
    assert request.input_ids == [1, *[PICTURE] * 8, 7, *[PICTURE] * 8, 2]
    assert [item.spans for item in inputs.items] == [[(1, 8)], [(10, 8)]]
    assert np.frombuffer(inputs.positions, "<i8").tolist() == list(range(19))
    np.testing.assert_array_equal(frontend.scheduler.pixels(rid, 0), _noise(1))
    np.testing.assert_array_equal(frontend.scheduler.pixels(rid, 1), _noise(2))
    frontend.scheduler.end(rid)
    (chunk,) = await asking
    assert chunk.media_tokens == {"image": 16}


async def test_media_are_held_until_the_last_choice_has_ended(frontend: Frontend) -> None:
    asking = asyncio.create_task(frontend.ask(_image(), params={"n": 2}, rid="r"))
    await frontend.wait_for(2)
    assert frontend.intake is not None
    pool = frontend.intake.pool
    assert frontend.scheduler.running["r#0"].multimodal == frontend.scheduler.running["r#1"].multimodal
    frontend.scheduler.end("r#0")
    assert pool.held_bytes > 0
    frontend.scheduler.end("r#1")
    assert pool.held_bytes == 0
    await asking


async def test_a_reader_that_goes_leaves_the_media_until_the_scheduler_lets_go(frontend: Frontend) -> None:
    asking = asyncio.create_task(frontend.ask(_image()))
    (rid,) = await frontend.wait_for()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert frontend.intake is not None
    assert frontend.scheduler.aborted == [rid]
    assert frontend.intake.pool.held_bytes > 0
    frontend.scheduler.end(rid, FinishReason(type="abort", message="gone", status_code=499))
    assert frontend.intake.pool.held_bytes == 0


async def test_requests_that_fail_before_the_scheduler_hold_nothing(frontend: Frontend) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"ids": [1, 2]}, "a placeholder for each medium"),
        ({"model": "other"}, "other"),
        ({"params": {"min_new_tokens": 9}}, "min_new_tokens"),
    ]
    for fields, message in cases:
        with pytest.raises((RequestError, ValueError), match=message):
            await frontend.ask(_image(), **fields)
    with pytest.raises(RequestError, match="tokens"):
        await frontend.ask(MediaInput(kind=IMAGE, source=image_file(_noise(0, 300))))
    assert frontend.intake is not None
    assert frontend.intake.pool.held_bytes == 0
    assert frontend.scheduler.running == {}


async def test_two_requests_of_one_id(frontend: Frontend) -> None:
    first = asyncio.create_task(frontend.ask(_image(), rid="same"))
    await frontend.wait_for()
    with pytest.raises(RequestError, match="in use"):
        await frontend.ask(_image(), rid="same")
    frontend.scheduler.end("same")
    await first


async def test_a_model_that_takes_text_only(plan: EnginePlan) -> None:
    frontend = Frontend(plan, None)
    with pytest.raises(RequestError, match="takes text only") as caught:
        await frontend.ask(_image())
    assert (caught.value.status_code, caught.value.code) == (400, "unsupported_content")


async def test_thirty_two_requests_at_once(frontend: Frontend, shelf: Shelf) -> None:
    """Some pictures are new, some the same, some bad; some clients leave while theirs is fetched or decoded."""
    frontend.scheduler.is_eager = True
    shelf.files = {f"shelf:{i}": image_file(_noise(i % 5)) for i in range(32)}
    shelf.files |= {f"shelf:{i}": b"corrupt" for i in (3, 17)}
    shelf.gates = {f"shelf:{i}": asyncio.Event() for i in (8, 9)}
    hanging = _noise(99)
    hanging[0, 0, 0] = HANGS
    shelf.files["shelf:20"] = image_file(hanging)
    asking = [
        asyncio.create_task(frontend.ask(MediaInput(kind=IMAGE, source=f"shelf:{i}", where=f"messages[{i}]")))
        for i in range(32)
    ]
    leaving = (8, 9, 20)
    await asyncio.wait([task for i, task in enumerate(asking) if i not in leaving])
    for i in leaving:
        assert not asking[i].done()
        asking[i].cancel()
    results = await asyncio.gather(*asking, return_exceptions=True)
    for i, result in enumerate(results):
        if i in leaving:
            assert isinstance(result, asyncio.CancelledError)
        elif i in (3, 17):
            assert isinstance(result, RequestError)
            assert str(result).startswith(f"messages[{i}]: it is no picture")
        else:
            assert isinstance(result, list), result
            assert result[-1].finish_reason == FinishReason(type="stop")
    assert frontend.intake is not None
    # Each of the five pictures was decoded once.
    assert frontend.intake.counts.decoded == {"image": 5}
    assert frontend.manager.num_in_flight == frontend.manager.num_open_choices == 0
    exposition = frontend.metrics.exposition()[0].decode()
    assert 'hookline_media_decoded_total{kind="image"} 5.0' in exposition
    assert "hookline_media_pool_held_bytes 0.0" in exposition


async def test_the_end_of_the_manager_ends_the_decoders(frontend: Frontend, tmp_path: Path) -> None:
    frontend.scheduler.is_eager = True
    await frontend.ask(_image())
    await frontend.manager.close()
    assert frontend.intake is not None
    assert frontend.intake.pool.num_entries == 0
