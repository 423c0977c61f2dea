"""What hookline-models offers."""

from __future__ import annotations

import importlib

from hookline.interfaces.model import ModelSpec
from hookline.layers.model import Model
from hookline_models.plugin import PLUGIN, hookline_models
from tests.models.harness import MODELS


def test_hook_hookline_models() -> None:
    specs = hookline_models()
    found: dict[str, type[Model]] = {}
    for spec in specs:
        assert isinstance(spec, ModelSpec)
        assert spec.kind in PLUGIN.provides
        module, _, attribute = spec.target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        assert issubclass(target, Model)
        found |= dict.fromkeys(spec.architectures, target)
    assert found == MODELS


def test_position_planes_are_those_of_the_family() -> None:
    assert {spec.name: spec.position_planes for spec in hookline_models() if spec.position_planes != 1} == {
        "qwen3_vl_moe": 3
    }
