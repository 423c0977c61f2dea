"""The encoder of pictures alone: pictures a second as a worker makes their rows, and their share of the FLOP limit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from hookline.batch.encoder_orders import EncoderOrders
from hookline.bench.pictures import PictureSource
from hookline.config.engine_plan import EnginePlan
from hookline.config.resolve import resolve_engine
from hookline.config.sources import LoadedConfig
from hookline.errors import ConfigError, HooklineError
from hookline.interfaces.multimodal import IMAGE, NO_PARAMS, EncoderItem, MultimodalProcessor
from hookline.media.decoding import load_processor, process_medium
from hookline.media.digests import medium_digest
from hookline.media.limits import DecodeLimits
from hookline.platform import Platform
from hookline.plugins.manager import load_plugins
from hookline.worker.factory import build_worker
from hookline.worker.worker import LocalWorker

_ROUNDS = 5
#: Side of the square matrices whose product tells the limit, on a GPU and on a processor.
_LIMIT_SIDES = {"cuda": 8192, "cpu": 512}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderTimes:
    """Seconds, medians of five rounds after a warm-up."""

    #: Pictures in a row -> until the rows of all are there.
    seconds: Mapping[int, float]
    #: Decoding and processing one picture on the host.
    host_seconds: float
    patches: int
    #: Embedding rows of one picture.
    rows: int
    #: Operations for one picture; ``None`` for a tower that ``tower_flops`` does not know.
    flops: int | None
    #: Operations a second of a large matrix product in the same dtype.
    flop_limit: float

    def rate(self, count: int) -> float:
        """Pictures per second."""
        return count / self.seconds[count]

    def share(self, count: int) -> float | None:
        """Of the FLOP limit."""
        return None if self.flops is None else self.flops * self.rate(count) / self.flop_limit


def tower_flops(vision: Mapping[str, Any], patches: int) -> int | None:
    """Operations (two for each multiplication of a product) of a tower that config.json describes as Qwen3-VL does,
    for one picture; ``None`` for others. Products of matrices and of attention count, nothing else."""
    if not {"depth", "spatial_merge_size", "out_hidden_size", "temporal_patch_size"} <= set(vision):
        return None
    width, inner, depth = vision["hidden_size"], vision["intermediate_size"], vision["depth"]
    window = vision.get("in_channels", 3) * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    merged = width * vision["spatial_merge_size"] ** 2
    embedding = patches * window * width
    block = patches * (4 * width * width + 2 * width * inner) + 2 * patches * patches * width
    rows = patches // vision["spatial_merge_size"] ** 2
    merger = rows * (merged * merged + merged * vision["out_hidden_size"])
    num_mergers = 1 + len(vision.get("deepstack_visual_indexes", ()))
    return int(2 * (embedding + depth * block + num_mergers * merger))


def measure_encoder(
    loaded: LoadedConfig, source: PictureSource, counts: Sequence[int], platform: Platform
) -> EncoderTimes:
    """Build a worker on ``platform``, let it encode pictures in portions as the scheduler orders them, and free it.

    Raises ``ConfigError`` for a model without pictures, ``HooklineError`` when the encoder fails.
    """
    plan = resolve_engine(loaded.config, load_plugins(loaded.config))
    processor = load_processor(plan.plugins, plan.model_path, _no_text)
    if processor is None:
        raise ConfigError(f"{plan.served_model_name} takes no pictures; choose another model, or a --shape that does")
    worker = build_worker(plan, platform=platform)
    try:
        bench = _EncoderBench(plan, processor, worker, source, platform.device)
        item, host_seconds = bench.sample()
        seconds = {count: bench.median_seconds(count) for count in counts}
        limit = flop_limit(platform.device, getattr(torch, plan.config.model.dtype))
    finally:
        worker.close()
    return EncoderTimes(
        seconds=seconds,
        host_seconds=host_seconds,
        patches=item.cost,
        rows=item.num_rows,
        flops=tower_flops(bench.vision_config(), item.cost),
        flop_limit=limit,
    )


def flop_limit(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of some large matrix products."""
    side = _LIMIT_SIDES[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _synchronize(device)
        started = time.perf_counter()
        torch.mm(left, right)
        _synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


class _EncoderBench:
    def __init__(
        self,
        plan: EnginePlan,
        processor: MultimodalProcessor,
        worker: LocalWorker,
        source: PictureSource,
        device: torch.device,
    ) -> None:
        self._plan = plan
        self._processor = processor
        self._worker = worker
        self._source = source
        self._budget = plan.config.multimodal.encoder_patch_budget
        self._device = device

    def vision_config(self) -> Mapping[str, Any]:
        values: Any = self._processor.env.model.raw.get("vision_config")
        return values if isinstance(values, Mapping) else {}

    def sample(self) -> tuple[EncoderItem, float]:
        """An item, and the median seconds that the host took for one."""
        seconds = []
        for _ in range(1 + _ROUNDS):
            started = time.perf_counter()
            item = self._item()
            seconds.append(time.perf_counter() - started)
        return item, statistics.median(seconds[1:])

    def median_seconds(self, count: int) -> float:
        items = [self._item() for _ in range(count)]
        return statistics.median([self._encode(items) for _ in range(1 + _ROUNDS)][1:])

    def _encode(self, items: Sequence[EncoderItem]) -> float:
        size = max(1, self._budget // items[0].cost)
        _synchronize(self._device)
        started = time.perf_counter()
        for first in range(0, len(items), size):
            self._worker.encode(EncoderOrders(encode=items[first : first + size]))
        _synchronize(self._device)
        seconds = time.perf_counter() - started
        for fault in self._worker.encoder_faults.values():
            raise HooklineError(fault)
        self._worker.encode(EncoderOrders(drop=[item.digest for item in items]))
        return seconds

    def _item(self) -> EncoderItem:
        """What a decoder makes of a new picture."""
        blob = self._source.new()
        limits = DecodeLimits.of(self._plan.config.multimodal)
        media = process_medium(self._processor, IMAGE, [blob], NO_PARAMS, limits)
        digest = medium_digest(IMAGE, [blob], self._processor.processing_key(IMAGE, NO_PARAMS))
        (item,) = media.items
        return EncoderItem(
            kind=IMAGE,
            digest=digest,
            tensors=item.tensors,
            grid=tuple(item.grid),
            num_rows=item.num_rows,
            cost=item.cost,
        )


def _synchronize(device: torch.device) -> None:
    """Wait for what was launched on any stream."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _no_text(text: str) -> NoReturn:
    raise AssertionError("a picture needs no tokenizer")
