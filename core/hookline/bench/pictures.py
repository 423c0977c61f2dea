"""PictureSource: made-up JPEG pictures, each new to every cache, and prompts that ask for them."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from hookline.errors import ConfigError

#: Pictures that differ in their pixels; the others differ from one of them in a comment of the file.
_NUM_SCENES = 4
_QUALITY = 90
#: Text before and after the pictures of a prompt, in tokens.
_TEXT_TOKENS = 32


class PictureSource:
    """Pictures of ``size`` x ``size`` pixels: soft colours, about 0.1 bytes a pixel."""

    def __init__(self, size: int) -> None:
        self._scenes = [_jpeg(size, seed) for seed in range(_NUM_SCENES)]
        self._numbers = itertools.count()

    def new(self) -> bytes:
        """A file that nobody has seen: caches know pictures by the bytes of their files."""
        number = next(self._numbers)
        comment = f"picture {number}".encode()
        scene = self._scenes[number % _NUM_SCENES]
        # A comment segment after the marker that begins the file.
        return scene[:2] + b"\xff\xfe" + (2 + len(comment)).to_bytes(2, "big") + comment + scene[2:]


class PicturePrompts:
    """Token ids around pictures, as config.json of a model names them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ``ConfigError`` for a model that has no token for pictures."""
        pad = config.get("image_token_id", config.get("image_token_index"))
        if not isinstance(pad, int):
            raise ConfigError("the model has no image_token_id in its config.json: it takes no pictures")
        marks = [config.get(name) for name in ("vision_start_token_id", "vision_end_token_id")]
        self.image_token = pad
        self._before, self._after = ([mark] if isinstance(mark, int) else [] for mark in marks)
        specials = [pad, *self._before, *self._after]
        self._first_special = min([*specials, config.get("text_config", config)["vocab_size"]])
        self._random = Random(0)

    @classmethod
    def of(cls, directory: Path) -> PicturePrompts:
        """For the model in a directory."""
        return cls(json.loads((directory / "config.json").read_text()))

    def text(self, length: int = _TEXT_TOKENS) -> list[int]:
        """Random tokens, none of them special."""
        return [self._random.randrange(3, self._first_special) for _ in range(length)]

    def ids(self, num_pictures: int, *, before: Sequence[int] | None = None, rows: int = 1) -> list[int]:
        """Text, the pictures, text. ``rows`` is the number of placeholders for each: one, before expansion."""
        picture = [*self._before, *[self.image_token] * rows, *self._after]
        return [*(self.text() if before is None else before), *picture * num_pictures, *self.text()]


def picture_body(input_ids: Sequence[int], pictures: Sequence[bytes], *, new_tokens: int) -> dict[str, Any]:
    """Body of a streamed ``/generate`` request, greedy, with exactly ``new_tokens`` tokens of output."""
    body: dict[str, Any] = {
        "input_ids": list(input_ids),
        "sampling_params": {"max_new_tokens": new_tokens, "temperature": 0.0, "ignore_eos": True},
        "stream": True,
    }
    if pictures:
        body["image_data"] = [base64.b64encode(picture).decode() for picture in pictures]
    return body


def _jpeg(size: int, seed: int) -> bytes:
    from PIL import Image

    rng = np.random.default_rng(seed)
    side = max(2, size // 16)
    soft = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize((size, size))
    file = io.BytesIO()
    soft.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
