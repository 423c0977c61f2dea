"""EnginePlan: everything the launcher decided, as data that every process of the engine receives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hookline.config.schema import HooklineConfig
from hookline.plugins.plan import PluginPlan


class EnginePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The resolved configuration, the located checkpoint, and the chosen plugins."""

    #: ``HooklineConfig.model_dump()`` after resolution: no ``auto`` is left but those a worker measures.
    config_values: dict[str, Any]
    #: Directory with config.json and weights.
    model_path: str
    #: Directory with the tokenizer.
    tokenizer_path: str
    #: Name that clients use.
    served_model_name: str
    plugins: PluginPlan
    #: LoRA adapters to load at start: name -> directory.
    adapters: dict[str, str] = {}
    #: Every value that resolution filled in: (dotted path, value, reason).
    resolved: list[tuple[str, str, str]] = []
    #: Candidates of each kind that were refused: kind -> name -> reasons.
    refusals: dict[str, dict[str, list[str]]] = {}

    @property
    def config(self) -> HooklineConfig:
        """The typed configuration (built anew on each call; keep it)."""
        return HooklineConfig.model_validate(self.config_values)

    @property
    def model_dir(self) -> Path:
        """``model_path`` as a path."""
        return Path(self.model_path)
