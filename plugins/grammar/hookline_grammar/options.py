"""GrammarOptions: the plugin's section in the config, ``plugins.grammar``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GrammarOptions(BaseModel):
    """Options of the grammar backends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    any_whitespace: bool = Field(True, description="allow white space between the parts of a JSON document")
    max_whitespace: int | None = Field(
        128, ge=1, description="characters of white space in a row at most; null: no limit (xgrammar only)"
    )
