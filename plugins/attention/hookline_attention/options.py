"""AttentionOptions: the plugin's section in the config, ``plugins.attention``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AttentionOptions(BaseModel):
    """Options of the attention backends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flashinfer_prefill_kernel: Literal["auto", "fa2", "fa3"] = Field(
        "auto", description="FlashInfer's kernels for prefills; auto: fa3 on Hopper, else fa2"
    )
    flashinfer_decode_kernel: Literal["auto", "cuda_cores", "tensor_cores"] = Field(
        "auto",
        description="FlashInfer's kernels for decodes; auto: tensor_cores from 4 query heads a key-value head on",
    )
