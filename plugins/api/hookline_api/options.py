"""ApiOptions: the plugin's section in the config, ``plugins.api``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt


class ApiOptions(BaseModel):
    """Options of the API families."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_stored_responses: int = Field(1024, ge=0, description="responses kept for later requests; 0: none")
    max_stored_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="bytes of all kept responses, the conversations before them included"
    )
    effort_tokens: dict[str, NonNegativeInt] = Field(
        default_factory=dict,
        description="tokens of reasoning that each reasoning effort allows at most, by its word; 'none' is 0",
    )
    max_stored_seconds: float = Field(24 * 3600.0, gt=0, description="seconds for which a response is kept at most")
