"""TransformersVision: a vision-language model in transformers with made-up weights, as a baseline."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from hookline.bench.pictures import PicturePrompts, PictureSource
from hookline.platform import Platform

#: Standard deviation of the made-up weights.
_SCALE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTimes:
    """Seconds."""

    #: One picture, until the first token; the median.
    first_token: float
    num_concurrent: int
    concurrent_seconds: float
    #: Requests that ran together.
    batch: int
    attention: str
    experts: str

    @property
    def request_rate(self) -> float:
        """Requests per second."""
        return self.num_concurrent / self.concurrent_seconds


class TransformersVision:
    """One model on one device. Its weights are drawn there, not on the host."""

    def __init__(self, directory: Path, platform: Platform, dtype: str) -> None:
        from transformers import AutoConfig, AutoModelForImageTextToText
        from transformers.initialization import no_init_weights

        self._platform = platform
        self._device = device = platform.device
        config = AutoConfig.from_pretrained(directory)
        # Its own initialisation would draw every weight once more.
        auto: Any = AutoModelForImageTextToText
        with device, no_init_weights():
            self._model = auto.from_config(config, dtype=getattr(torch, dtype)).eval()
        with torch.no_grad():
            for parameter in self._model.parameters():
                parameter.normal_(0.0, _SCALE)
        self._dtype = getattr(torch, dtype)
        self._processor = _image_processor(directory)
        # torchvision's processor works on the device; the other one does not take one.
        self._placed = {"device": device} if find_spec("torchvision") is not None else {}
        self._merge = config.vision_config.spatial_merge_size

    def measure(
        self, prompts: PicturePrompts, source: PictureSource, *, repetitions: int, num_concurrent: int, output_len: int
    ) -> BaselineTimes:
        """Time to the first token of one picture, and ``num_concurrent`` requests with one picture each, in the
        largest batches that fit. Decoding and processing of pictures count, as they do for a server."""
        first = [self._timed(prompts, [source.new()], 1) for _ in range(1 + repetitions)][1:]
        batch, seconds = self._largest_batch(prompts, source, num_concurrent, output_len)
        config = self._model.config
        return BaselineTimes(
            first_token=statistics.median(first),
            num_concurrent=num_concurrent,
            concurrent_seconds=seconds,
            batch=batch,
            attention=str(config._attn_implementation),
            experts=str(getattr(config, "_experts_implementation", None)),
        )

    def close(self) -> None:
        """Free the device's memory."""
        del self._model
        self._platform.release_cached()

    def _largest_batch(
        self, prompts: PicturePrompts, source: PictureSource, count: int, output_len: int
    ) -> tuple[int, float]:
        batch = count
        while True:
            try:
                self._timed(prompts, [source.new() for _ in range(batch)], 2)  # a warm-up, and it tells what fits
                sizes = [min(batch, count - first) for first in range(0, count, batch)]
                seconds = [self._timed(prompts, [source.new() for _ in range(size)], output_len) for size in sizes]
                return batch, sum(seconds)
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
            self._platform.release_cached()

    def _timed(self, prompts: PicturePrompts, pictures: Sequence[bytes], new_tokens: int) -> float:
        """Seconds for one batch of requests with one picture each; all have the same length."""
        started = time.perf_counter()
        values, grids = self._processed(pictures)
        rows = int(grids[0].prod()) // self._merge**2
        ids = torch.tensor([prompts.ids(1, rows=rows) for _ in pictures], device=self._device)
        with torch.inference_mode():
            out = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == prompts.image_token).int(),
                pixel_values=values,
                image_grid_thw=grids,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        found = out[:, -1].tolist()  # waits for the device
        seconds = time.perf_counter() - started
        assert len(found) == len(pictures)
        assert out.shape[1] == ids.shape[1] + new_tokens
        return seconds

    def _processed(self, pictures: Sequence[bytes]) -> tuple[Any, Any]:
        from PIL import Image

        images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
        done = self._processor(images=images, return_tensors="pt", **self._placed)
        return done["pixel_values"].to(self._device, self._dtype), done["image_grid_thw"].to(self._device)


def _image_processor(directory: Path) -> Any:
    """The checkpoint's, or that of the Qwen-VL family; torchvision's where it is installed."""
    from transformers import AutoImageProcessor

    if (directory / "preprocessor_config.json").is_file():
        return AutoImageProcessor.from_pretrained(directory)  # type: ignore[no-untyped-call]
    sizes: dict[str, Any] = {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}}
    sizes |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if find_spec("torchvision") is not None:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

        return Qwen2VLImageProcessor(**sizes)
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(**sizes)
