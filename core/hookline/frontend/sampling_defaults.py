"""Sampling defaults: request above server above checkpoint above built-in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookline.config.model_config import ModelConfig
from hookline.config.schema import ModelSection
from hookline.errors import ConfigError, RequestError
from hookline.sampling_params import SamplingParams


class SamplingDefaults:
    """The defaults of one engine. Raises ``ConfigError`` when the server's or the checkpoint's are invalid."""

    def __init__(self, section: ModelSection, model: ModelConfig) -> None:
        own = model.generation_defaults if section.sampling_defaults == "model" else {}
        self._values: dict[str, Any] = {**own, **section.preferred_sampling_params}
        try:
            SamplingParams.from_dict(self._values)
        except RequestError as exc:
            raise ConfigError(
                f"sampling defaults do not hold (preferred_sampling_params above generation_config.json): {exc}"
            ) from exc

    def apply(self, overrides: Mapping[str, Any], *, max_new_tokens: int | None) -> SamplingParams:
        """Parameters of a request. ``None`` among ``overrides`` means "not given", but for
        ``max_new_tokens``, where it means "to the end of the context".

        ``max_new_tokens`` applies when neither the request nor the server sets one.
        """
        given = {key: value for key, value in overrides.items() if value is not None or key == "max_new_tokens"}
        values = {"max_new_tokens": max_new_tokens, **self._values, **given}
        if "min_new_tokens" in self._values and "min_new_tokens" not in given:
            # The server's minimum must not make a short request invalid.
            limit = values["max_new_tokens"]
            if type(limit) is int:
                values["min_new_tokens"] = min(values["min_new_tokens"], limit)
        return SamplingParams.from_dict(values)
