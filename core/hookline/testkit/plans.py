"""EnginePlans made by hand, for tests of what comes after resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hookline.config.engine_plan import EnginePlan
from hookline.config.schema import HooklineConfig
from hookline.plugins.plan import ChosenSpec, PluginPlan
from hookline.plugins.registry import Offer
from hookline.plugins.resolve import choose


def chosen(kind: str, name: str, target: str, **fields: Any) -> ChosenSpec:
    """A chosen offer of a distribution "tests"."""
    return ChosenSpec(kind=kind, name=name, target=target, distribution="tests", version="", plugin="tests", **fields)


def chosen_offer(offer: Offer[Any]) -> ChosenSpec:
    """An offer, chosen; one that no installed plugin makes comes from "tests" too."""
    spec = choose(offer)
    return spec if offer.plugin else msgspec.structs.replace(spec, distribution="tests", plugin="tests")


def make_plan(
    checkpoint: Path,
    *,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Sequence[ChosenSpec] = (),
    source_paths: Sequence[str] = (),
    config_models: Mapping[str, str] | None = None,
    adapters: Mapping[str, str] | None = None,
) -> EnginePlan:
    """A plan for a checkpoint; ``config`` holds the sections' values, ``config_models`` the "module:Model" of the
    options of each plugin."""
    settings = HooklineConfig.model_validate(dict(config or {}))
    values = settings.model_dump()
    return EnginePlan(
        config_values=values,
        model_path=str(checkpoint),
        tokenizer_path=str(checkpoint),
        served_model_name="tiny",
        plugins=PluginPlan(
            chosen=list(plugins),
            source_paths=list(source_paths),
            options=settings.plugins,
            config_models=dict(config_models or {}),
        ),
        adapters=dict(adapters or {}),
    )
