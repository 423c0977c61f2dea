"""Options: the section ``plugins.sdpa`` of a configuration."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Options(BaseModel):
    expand_heads: bool = Field(
        default=False,
        description="give every query head keys of its own instead of leaving grouped heads to torch: takes memory, "
        "and opens kernels that know no groups",
    )
