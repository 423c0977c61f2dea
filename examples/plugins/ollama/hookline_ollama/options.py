"""Options: the section ``plugins.ollama`` of a configuration."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Options(BaseModel):
    version: str = Field(
        default="0.13.0",
        pattern=r"^\d+\.\d+\.\d+$",
        description="what /api/version says; clients look there for what the server can do, in versions of Ollama",
    )
