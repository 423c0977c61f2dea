"""Pictures, measured: a server that is asked about them, its encoder alone, and transformers with the same model."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hookline.bench.encoder import EncoderTimes, measure_encoder
from hookline.bench.model_shapes import with_layers
from hookline.bench.picture_client import PictureClient, PictureLoad, PictureTimes
from hookline.bench.pictures import PicturePrompts, PictureSource
from hookline.bench.server_process import ServerProcess
from hookline.bench.stage_clock import StageClock
from hookline.bench.vision_baseline import BaselineTimes, TransformersVision
from hookline.config.engine_plan import EnginePlan
from hookline.config.resolve import resolve_engine
from hookline.config.sources import LoadedConfig
from hookline.platform import Platform, create_platform
from hookline.plugins.manager import load_plugins


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionMeasurement:
    """What was found, and how long each part of the run took."""

    model: str
    served: PictureTimes
    encoder: EncoderTimes
    baseline: BaselineTimes | None
    #: Part -> seconds.
    parts: dict[str, float]


def measure_vision(
    loaded: LoadedConfig,
    load: PictureLoad,
    *,
    size: int,
    num_layers: int | None,
    with_baseline: bool,
    note: Callable[[str], object],
) -> VisionMeasurement:
    """Measure pictures of ``size`` x ``size`` pixels. The parts run one after the other, each with the whole device.

    ``num_layers`` cuts the text half for short runs; ``note`` is told of each part that begins. Raises
    ``HooklineError`` when a part fails, ``ConfigError`` for a model that takes no pictures.
    """
    clock = StageClock("start", "server", "encoder", "transformers")
    with _cut(loaded, num_layers) as (used, directory):
        prompts, pictures = PicturePrompts.of(directory), PictureSource(size)
        with clock.stage("start"):
            server = ServerProcess(used)
        with server:
            with clock.stage("start"):
                note("starting a server")
                seconds = server.wait_ready()
            note(f"asking the server, which was ready after {seconds:.1f} s")
            with clock.stage("server"):
                served = asyncio.run(PictureClient(server.url, prompts, pictures, load).measure())
        # Only now: until then the whole device was the server's.
        platform = _platform(used)
        note("encoding pictures alone")
        with clock.stage("encoder"):
            encoder = _encoder_alone(used, directory, pictures, load, platform)
        baseline = None
        if with_baseline:
            note("asking transformers")
            with clock.stage("transformers"):
                baseline = _baseline(used, directory, prompts, pictures, load, platform)
        return VisionMeasurement(
            model=directory.name, served=served, encoder=encoder, baseline=baseline, parts=clock.seconds
        )


@contextmanager
def _cut(loaded: LoadedConfig, num_layers: int | None) -> Iterator[tuple[LoadedConfig, Path]]:
    """The configuration to measure, and the directory of its model."""
    directory = _plan(loaded).model_dir
    if num_layers is None:
        yield loaded, directory
        return
    with with_layers(loaded, directory, num_layers) as cut:
        yield cut, Path(str(cut.config.model.model))


def _encoder_alone(
    loaded: LoadedConfig, directory: Path, pictures: PictureSource, load: PictureLoad, platform: Platform
) -> EncoderTimes:
    """Of a worker whose text half is as short as the model allows, without graphs: it starts sooner."""
    vision = json.loads((directory / "config.json").read_text()).get("vision_config", {})
    # The first layers take the deepstack parts.
    num_layers = max(1, len(vision.get("deepstack_visual_indexes", ())))
    with with_layers(loaded, directory, num_layers) as cut:
        execution = cut.config.execution.model_copy(update={"disable_cuda_graph": True})
        short = LoadedConfig(config=cut.config.model_copy(update={"execution": execution}), origins=cut.origins)
        found = measure_encoder(short, pictures, load.counts, platform)
    gc.collect()
    platform.release_cached()
    return found


def _baseline(
    loaded: LoadedConfig,
    directory: Path,
    prompts: PicturePrompts,
    pictures: PictureSource,
    load: PictureLoad,
    platform: Platform,
) -> BaselineTimes:
    model = TransformersVision(directory, platform, _plan(loaded).config.model.dtype)
    try:
        return model.measure(
            prompts,
            pictures,
            repetitions=load.repetitions,
            num_concurrent=load.num_concurrent,
            output_len=load.output_len,
        )
    finally:
        model.close()


def _plan(loaded: LoadedConfig) -> EnginePlan:
    return resolve_engine(loaded.config, load_plugins(loaded.config))


def _platform(loaded: LoadedConfig) -> Platform:
    execution = _plan(loaded).config.execution
    return create_platform(execution.device, cpu_threads=execution.cpu_threads)
