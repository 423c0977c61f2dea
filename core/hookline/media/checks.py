"""Checks of a request's media before anything is fetched."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hookline.config.schema import MultimodalConfig
from hookline.errors import RequestError
from hookline.interfaces.multimodal import IMAGE, VIDEO, MediaInput, MediaParams


class MediaChecks:
    """What the model takes and the configuration allows."""

    def __init__(self, config: MultimodalConfig, placeholders: Mapping[str, str], model_name: str) -> None:
        """``placeholders`` are those of the model's processor; none for a model that takes text only."""
        self._kinds = frozenset(placeholders)
        self._model_name = model_name
        self._limits = {IMAGE: config.max_images, VIDEO: config.max_videos}
        self._pixels = {
            IMAGE: (config.image_min_pixels, config.image_max_pixels),
            VIDEO: (config.video_min_pixels, config.video_max_pixels),
        }
        self._max_pixels = {
            IMAGE: int(config.max_image_megapixels * 1_000_000),
            VIDEO: int(config.max_video_megapixels * 1_000_000),
        }

    def apply(self, media: Sequence[MediaInput]) -> list[MediaInput]:
        """The media with the server's settings filled in. Raises ``RequestError`` naming the item at fault."""
        counts: Counter[str] = Counter()
        checked = []
        for one in media:
            if one.kind not in self._kinds:
                takes = " and ".join(["text", *sorted(self._kinds)]) if self._kinds else "text only"
                raise _fault(
                    one, f"the model '{self._model_name}' takes {takes}, no {one.kind}", code="unsupported_content"
                )
            counts[one.kind] += 1
            if counts[one.kind] > self._limits.get(one.kind, 0):
                limit = self._limits.get(one.kind, 0)
                raise _fault(
                    one,
                    f"it is {one.kind} number {counts[one.kind]} of this request; at most {limit} are taken "
                    f"(max_{one.kind}s)",
                    code="too_many_media",
                )
            checked.append(replace(one, params=self._params(one)))
        return checked

    def _params(self, one: MediaInput) -> MediaParams:
        params = one.params
        low, high = self._pixels[one.kind]
        for name in ("min_pixels", "max_pixels"):
            wish = getattr(params, name)
            if wish is not None and (type(wish) is not int or not 1 <= wish <= self._max_pixels[one.kind]):
                raise _fault(one, f"{name} must be an integer from 1 to {self._max_pixels[one.kind]}, not {wish!r:.40}")
        if high is not None and (params.max_pixels or 0) > high:
            raise _fault(one, f"max_pixels is {params.max_pixels}; this server allows {high} ({one.kind}_max_pixels)")
        params = replace(
            params,
            min_pixels=low if params.min_pixels is None else params.min_pixels,
            max_pixels=high if params.max_pixels is None else params.max_pixels,
        )
        if params.min_pixels is not None and params.max_pixels is not None and params.min_pixels > params.max_pixels:
            raise _fault(one, f"min_pixels ({params.min_pixels}) is above max_pixels ({params.max_pixels})")
        self._check_frames(one)
        return params

    def _check_frames(self, one: MediaInput) -> None:
        params = one.params
        if params.fps is not None and params.num_frames is not None:
            raise _fault(one, "fps and num_frames say the same thing twice; give one of them")
        for name, value in (("fps", params.fps), ("fps", one.fps)):
            if value is not None and not (_is_number(value) and 0 < value <= 1000):
                raise _fault(one, f"{name} must be a number above 0 and at most 1000, not {value!r:.40}")
        frames = params.num_frames
        if frames is not None and (type(frames) is not int or not 1 <= frames <= 4096):
            raise _fault(one, f"num_frames must be an integer from 1 to 4096, not {frames!r:.40}")


def named_fault(one: MediaInput, exc: RequestError) -> RequestError:
    """An error about a medium, with its place in front."""
    return RequestError(f"{one.where}: {exc.message}", param=_param(one), code=exc.code, status_code=exc.status_code)


def _fault(one: MediaInput, message: str, *, code: str = "invalid_request") -> RequestError:
    return RequestError(f"{one.where}: {message}", param=_param(one), code=code)


def _param(one: MediaInput) -> str:
    return one.where.partition("[")[0].partition(".")[0]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
