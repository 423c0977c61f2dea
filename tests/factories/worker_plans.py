"""Engine plans for tests of the worker, made without discovery or resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.config.schema import HooklineConfig
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.spec import Spec
from hookline.plugins.plan import ChosenSpec, PluginPlan
from hookline.plugins.resolve import details_of
from hookline_attention.plugin import hookline_attention_backends
from hookline_logits.plugin import hookline_logits_processors
from hookline_models.plugin import hookline_models, hookline_poolers


def make_plan(
    path: Path,
    *,
    extra: tuple[ChosenSpec, ...] = (),
    attention: str | AttentionBackendSpec | tuple[str | AttentionBackendSpec, ...] = "torch_native",
    **sections: dict[str, Any],
) -> EnginePlan:
    """A CPU plan for a checkpoint; ``sections`` are config sections by name, ``attention`` one backend or two."""
    model = ModelConfig.load(path)
    values: dict[str, dict[str, Any]] = {
        "model": {"model": str(path), "dtype": "float32", "load_format": "safetensors"},
        "execution": {"device": "cpu", "cpu_threads": 1},
        "cache": {"page_size": 1},
    }
    for section, changes in sections.items():
        values.setdefault(section, {}).update(changes)
    spec = next(spec for spec in hookline_models() if spec.architectures[0] in model.architectures)
    named = {offer.name: offer for offer in hookline_attention_backends()}
    wanted = attention if isinstance(attention, tuple) else (attention,)
    backends = [named[backend] if isinstance(backend, str) else backend for backend in wanted]
    offers: list[Spec] = [spec, *backends, *hookline_poolers(), *hookline_logits_processors()]
    return EnginePlan(
        config_values=HooklineConfig.model_validate(values).model_dump(),
        model_path=str(path),
        tokenizer_path=str(path),
        served_model_name=path.name,
        plugins=PluginPlan(chosen=[*map(chosen, offers), *extra]),
    )


def chosen(spec: Spec) -> ChosenSpec:
    """The plan's entry of an offer."""
    return ChosenSpec(
        kind=spec.kind,
        name=spec.name,
        target=spec.target,
        distribution="test",
        version="",
        plugin="test",
        features=sorted(spec.features),
        details=details_of(spec),
    )
