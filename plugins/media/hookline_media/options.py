"""Options of hookline-media: ``plugins.media``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MediaOptions(BaseModel):
    """Settings of the loaders; what concerns all loaders is in the section ``multimodal``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_agent: str = Field("hookline", description="User-Agent of requests for media")
    ca_file: str | None = Field(None, description="certificates (PEM) to trust; default: those of public authorities")
