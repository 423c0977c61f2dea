"""RopeConfig: rotary position parameters of a checkpoint, whichever spelling its config.json uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hookline.errors import ModelError

#: Scalings whose frequencies do not depend on the length of the text at hand.
SUPPORTED_ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """How positions become rotations. Fields of a scaling are set only for that ``rope_type``."""

    theta: float
    rope_type: str = "default"
    #: Stretch of positions; "linear", "llama3" and "yarn".
    factor: float = 1.0
    #: Context of the pretraining; "llama3" and "yarn".
    original_context_len: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    #: Factor on cos and sin; ``None``: derived from the other values.
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    #: Frequencies that follow each position plane (temporal, height, width); ``None``: one plane.
    mrope_section: tuple[int, ...] | None = None
    #: Planes take turns along the frequencies instead of lying in blocks.
    mrope_interleaved: bool = False

    @property
    def position_planes(self) -> int:
        """P: the number of position planes."""
        return 1 if self.mrope_section is None else len(self.mrope_section)

    @staticmethod
    def parse(text: Mapping[str, Any], *, head_dim: int, context_len: int, where: str) -> RopeConfig:
        """Read the text part of a config.json.

        transformers 5 writes ``rope_parameters``; earlier releases ``rope_theta`` and ``rope_scaling``.
        Raises ``ModelError`` for a scaling that is not supported and for sections that do not add up.
        """
        values = _merge(text)
        rope_type = str(values.get("rope_type") or values.get("type") or "default")
        # Early vision-language checkpoints name M-RoPE as if it were a scaling.
        if rope_type == "mrope":
            rope_type = "default"
        if rope_type not in SUPPORTED_ROPE_TYPES:
            raise ModelError(
                f"{where}: rope type '{rope_type}' is not supported (supported: {', '.join(SUPPORTED_ROPE_TYPES)})"
            )
        if float(values.get("partial_rotary_factor", 1.0)) != 1.0:
            raise ModelError(f"{where}: partial_rotary_factor other than 1.0 is not supported")
        try:
            return _build(values, rope_type, head_dim, context_len)
        except (TypeError, ValueError, KeyError) as exc:
            raise ModelError(f"{where}: the rope parameters {dict(values)} are not valid: {exc}") from exc


def _merge(text: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in ("rope_theta", "partial_rotary_factor"):
        if text.get(key) is not None:
            values[key] = text[key]
    values.update(text.get("rope_scaling") or {})
    values.update(text.get("rope_parameters") or {})
    return values


def _build(values: Mapping[str, Any], rope_type: str, head_dim: int, context_len: int) -> RopeConfig:
    section = values.get("mrope_section")
    if section is not None:
        section = tuple(int(size) for size in section)
        if sum(section) != head_dim // 2:
            raise ValueError(f"mrope_section {list(section)} must add up to half the head dimension, {head_dim // 2}")
    scaled = rope_type != "default"
    original = values.get("original_max_position_embeddings", context_len)
    factor = values["factor"] if scaled else 1.0
    return RopeConfig(
        theta=float(values.get("rope_theta", 10000.0)),
        rope_type=rope_type,
        factor=context_len / original if factor is None else float(factor),
        original_context_len=int(original) if rope_type in ("llama3", "yarn") else None,
        low_freq_factor=float(values.get("low_freq_factor", 1.0)),
        high_freq_factor=float(values.get("high_freq_factor", 4.0)),
        beta_fast=float(values.get("beta_fast") or 32.0),
        beta_slow=float(values.get("beta_slow") or 1.0),
        attention_factor=_optional(values.get("attention_factor")),
        mscale=_optional(values.get("mscale")),
        mscale_all_dim=_optional(values.get("mscale_all_dim")),
        truncate=bool(values.get("truncate", True)),
        mrope_section=section,
        mrope_interleaved=bool(values.get("mrope_interleaved", False)),
    )


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)
