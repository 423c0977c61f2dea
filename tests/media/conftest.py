"""Plans with the toy processor, and intakes over real decoders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.config.schema import MultimodalConfig
from hookline.interfaces.multimodal import MediaLimits, MediaLoader, MediaLoaderEnv, ProcessorEnv
from hookline.media.checks import MediaChecks
from hookline.media.decoders import Decoders
from hookline.media.intake import MediaIntake, segment_prefix
from hookline.media.jobs import DecoderSetup
from hookline.media.limits import DecodeLimits
from hookline.media.loaders import MediaLoaders
from hookline.media.pool import MediaPool
from hookline.testkit.plans import chosen, make_plan
from tests.factories.frontend import save_frontend_checkpoint
from tests.factories.media_processor import ToyProcessor

LIMITS = DecodeLimits(max_image_pixels=100_000, max_video_pixels=100_000)


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> EnginePlan:
    checkpoint = save_frontend_checkpoint(tmp_path_factory.mktemp("media") / "toy")
    model = chosen("models", "toy", "tests.factories.media_processor:ToyProcessor")
    model = msgspec.structs.replace(model, details={"processor": "tests.factories.media_processor:ToyProcessor"})
    return make_plan(checkpoint, plugins=[model])


@pytest.fixture
def setup(plan: EnginePlan) -> DecoderSetup:
    return DecoderSetup(
        plugins=plan.plugins,
        model_path=plan.model_path,
        limits=LIMITS,
        prefix=segment_prefix(),
        max_bytes=1 << 30,
        max_seconds=60,
    )


class Shelf(MediaLoader):
    """Gives what tests put on it; waits for ``gate`` where there is one."""

    def __init__(self) -> None:
        super().__init__(MediaLoaderEnv(config=None))
        self.files: dict[str, bytes] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.num_fetches = 0
        self.num_waiting = 0

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        self.num_fetches += 1
        if ref in self.gates:
            self.num_waiting += 1
            try:
                await self.gates[ref].wait()
            finally:
                self.num_waiting -= 1
        return self.files[ref]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


MakeIntake = Callable[..., MediaIntake]


@pytest.fixture
async def make_intake(plan: EnginePlan, setup: DecoderSetup, shelf: Shelf) -> AsyncIterator[MakeIntake]:
    """``make_intake(pool_bytes=..., decode_timeout=..., **config)``; all are closed, and have left nothing."""
    made: list[MediaIntake] = []

    def make(*, pool_bytes: int = 10_000_000, decode_timeout: float = 30.0, **config: Any) -> MediaIntake:
        section = MultimodalConfig(**{"media_pool_timeout": 10.0, **config})
        processor = ToyProcessor(ProcessorEnv(model=ModelConfig.load(plan.model_path), tokenize=_tokenize))
        intake = MediaIntake(
            config=section,
            processor=processor,
            checks=MediaChecks(section, processor.placeholders, "toy"),
            loaders=MediaLoaders({"shelf": shelf}),
            decoders=Decoders(setup, count=2, timeout=decode_timeout),
            pool=MediaPool(pool_bytes),
            prefix=setup.prefix,
        )
        made.append(intake)
        return intake

    yield make
    for intake in made:
        assert intake.pool.held_bytes == 0
        assert intake.figures().num_decoding == 0
        await intake.close()
    assert list(Path("/dev/shm").glob(f"{setup.prefix}*")) == []


def _tokenize(text: str) -> list[int]:
    return list(text.encode())
