"""EnginePlans made by hand, for tests of what comes after resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hookline.config.engine_plan import EnginePlan
from hookline.config.schema import HooklineConfig
from hookline.plugins.plan import ChosenSpec, PluginPlan


def chosen(kind: str, name: str, target: str, **fields: Any) -> ChosenSpec:
    """A chosen offer of a distribution "tests"."""
    return ChosenSpec(kind=kind, name=name, target=target, distribution="tests", version="", plugin="tests", **fields)


def make_plan(
    checkpoint: Path,
    *,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Sequence[ChosenSpec] = (),
    adapters: Mapping[str, str] | None = None,
) -> EnginePlan:
    """A plan for a checkpoint; ``config`` holds the sections' values."""
    values = HooklineConfig.model_validate(dict(config or {})).model_dump()
    return EnginePlan(
        config_values=values,
        model_path=str(checkpoint),
        tokenizer_path=str(checkpoint),
        served_model_name="tiny",
        plugins=PluginPlan(chosen=list(plugins)),
        adapters=dict(adapters or {}),
    )
