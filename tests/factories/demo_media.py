"""Held-out pictures and clips of the demo checkpoint, as HTTP requests and as transformers answers them."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from tests.factories.pictures import image_file, video_file
from training.evaluate import Evaluator, evaluation_tasks, held_out, load_model
from training.items import Item
from training.scenes import Clip, Scene, render, render_frames
from training.template import CHECKPOINT

PICTURE_TASKS = (
    "picture_colour",
    "picture_shape",
    "picture_count",
    "picture_position",
    "picture_compare",
    "picture_describe",
    "two_pictures",
)


def held_out_pictures(count: int) -> list[Item]:
    """Items about pictures, the tasks by turns."""
    tasks = evaluation_tasks()
    each = [held_out(tasks[name], False, -(-count // len(PICTURE_TASKS))) for name in PICTURE_TASKS]
    return [item for items in zip(*each, strict=True) for item in items][:count]


def held_out_clips(count: int) -> list[Item]:
    """Items about clips, with the frames that transformers takes of them."""
    return [_sampled(item) for item in held_out(evaluation_tasks()["clip"], False, count)]


def chat_body(item: Item) -> dict[str, Any]:
    """The request: pictures as PNG, clips as video files that lose nothing."""
    files = iter([_file(medium) for medium in item.media])
    messages = []
    for message in item.messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [part if part["type"] == "text" else _part(part["type"], next(files)) for part in content]
        messages.append({**message, "content": content})
    return {"messages": messages, "chat_template_kwargs": {"enable_thinking": False}, "temperature": 0}


class Reference:
    """transformers in float32 on the same items."""

    def __init__(self) -> None:
        self._evaluator = Evaluator(load_model(CHECKPOINT, torch.device("cpu"), torch.float32), Path(CHECKPOINT))

    def answers(self, items: Sequence[Item], batch: int = 25) -> list[str]:
        """What it says to each."""
        # transformers keeps the marks that the template puts around a clip.
        rows = [self._evaluator._encoder.encode(item, thinking=False, rng=cast(Any, _Always())) for item in items]
        texts = [self._evaluator._generate(rows[i : i + batch]) for i in range(0, len(rows), batch)]
        return [text.removesuffix("<|im_end|>") for part in texts for text in part]


class _Always:
    def random(self) -> float:
        return 0.0


def _sampled(item: Item) -> Item:
    (clip,) = item.media
    assert isinstance(clip, Clip)
    processor = Qwen3VLVideoProcessor.from_pretrained(CHECKPOINT)
    metadata = VideoMetadata(total_num_frames=clip.frame_indices[-1] + 1, fps=clip.fps)
    indices = tuple(int(index) for index in processor.sample_frames(metadata, fps=processor.fps))
    return dataclasses.replace(item, media=(dataclasses.replace(clip, frame_indices=indices),))


def _file(medium: Scene | Clip) -> bytes:
    if isinstance(medium, Scene):
        return image_file(render(medium))
    every = dataclasses.replace(medium, frame_indices=tuple(range(medium.frame_indices[-1] + 1)))
    return video_file([np.asarray(frame) for frame in render_frames(every)], fps=int(medium.fps))


def _part(kind: str, file: bytes) -> dict[str, Any]:
    media_type = {"image": "image/png", "video": "video/quicktime"}[kind]
    url = f"data:{media_type};base64,{base64.b64encode(file).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
