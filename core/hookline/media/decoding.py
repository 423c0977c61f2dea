"""From the bytes of a medium to a model's inputs, by the model's own processor. Runs wherever it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hookline.config.model_config import ModelConfig
from hookline.errors import PluginError, RequestError
from hookline.interfaces.multimodal import (
    IMAGE,
    DecodedImage,
    MediaParams,
    MultimodalProcessor,
    ProcessedMedia,
    ProcessorEnv,
)
from hookline.media.images import decode_image
from hookline.media.limits import DecodeLimits
from hookline.media.videos import decode_video, frames_as_video
from hookline.plugins.plan import PluginPlan

#: A file, or pixels [H, W, 3] uint8.
Blob = bytes | NDArray[np.uint8]


def load_processor(
    plugins: PluginPlan, model_path: str, tokenize: Callable[[str], list[int]]
) -> MultimodalProcessor | None:
    """The processor of the model that was chosen, ``None`` for a model that takes text only.

    Raises ``PluginError`` when it does not load, ``ModelError`` when it cannot use the checkpoint.
    """
    models = plugins.of_kind("models")
    target = models[0].details.get("processor") if models else None
    if not target:
        return None
    processor = plugins.load_target(models[0], target)
    if not (isinstance(processor, type) and issubclass(processor, MultimodalProcessor)):
        raise PluginError(
            f"the processor '{target}' of model '{models[0].name}' must be a subclass of MultimodalProcessor"
        )
    return processor(
        ProcessorEnv(model=ModelConfig.load(model_path), tokenize=tokenize, options=plugins.options_of(models[0]))
    )


def process_medium(
    processor: MultimodalProcessor,
    kind: str,
    blobs: Sequence[Blob],
    params: MediaParams,
    limits: DecodeLimits,
    *,
    is_frames: bool = False,
    fps: float | None = None,
) -> ProcessedMedia:
    """The model's inputs of one medium. Raises ``RequestError`` saying what is wrong with it."""
    if kind == IMAGE:
        return processor.process(DecodedImage(pixels=_pixels(blobs[0], limits)), params)
    if is_frames:
        return processor.process(frames_as_video(list(_frames(blobs, limits)), fps, limits), params)
    blob = blobs[0]
    if not isinstance(blob, bytes):
        raise RequestError("a video must be a file or a list of frames")
    return processor.process(decode_video(blob, lambda clip: processor.sample_frames(clip, params), limits), params)


def _frames(blobs: Sequence[Blob], limits: DecodeLimits) -> list[NDArray[np.uint8]]:
    frames: list[NDArray[np.uint8]] = []
    total = 0
    for number, blob in enumerate(blobs):
        try:
            frame = _pixels(blob, limits)
        except RequestError as exc:
            raise RequestError(f"frame {number}: {exc.message}", code=exc.code) from exc
        total += frame.shape[0] * frame.shape[1]
        if total > limits.max_video_pixels:
            raise RequestError(
                f"its frames have more than the {limits.max_video_pixels} pixels that are taken of a video "
                "(max_video_megapixels); send fewer or smaller ones",
                code="media_too_large",
            )
        frames.append(frame)
    return frames


def _pixels(blob: Blob, limits: DecodeLimits) -> NDArray[np.uint8]:
    return decode_image(blob, limits) if isinstance(blob, bytes) else blob
