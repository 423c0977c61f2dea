"""Parts that the tests of one kind need of other kinds, chosen among what is installed as an engine chooses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from hookline.interfaces.attention import AttentionBackend, AttentionEnv
from hookline.interfaces.lora import LoRABackend, LoRAEnv
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.spec import Spec
from hookline.layers.model import Model
from hookline.layers.ops import Ops
from hookline.plugins.context import Context
from hookline.plugins.options import load_config_model
from hookline.plugins.plan import PluginPlan
from hookline.plugins.registry import Offer
from hookline.plugins.resolve import Wish, choose, resolve_wish
from hookline.testkit.offer_suite import installed


def load(offer: Offer[Any]) -> Any:
    """The implementation of an offer, imported as an engine imports it."""
    return PluginPlan(source_paths=installed().source_paths).load(choose(offer))


def model_for(architecture: str) -> type[Model]:
    """The installed model for an architecture; ``LookupError`` naming those that are known."""
    known = sorted({name for offer in installed().offers(ModelSpec) for name in offer.spec.architectures})
    for offer in installed().offers(ModelSpec):
        if architecture in offer.spec.architectures:
            found: type[Model] = load(offer)
            return found
    raise LookupError(f"no installed model is for '{architecture}' (known: {', '.join(known) or 'none'})")


def attention_backend(env: AttentionEnv, features: Iterable[str]) -> AttentionBackend:
    """The best attention backend for the device; ``ResolutionError`` with every refusal if none fits."""
    backend: AttentionBackend = _make("attention_backends", env, features)
    return backend


def lora_backend(env: LoRAEnv) -> LoRABackend:
    """The best LoRA backend for the device; ``ResolutionError`` with every refusal if none fits."""
    backend: LoRABackend = _make("lora_backends", env, {"deterministic"} if env.deterministic else ())
    return backend


def ops(device: torch.device, dtype: torch.dtype, *, deterministic: bool = False) -> Ops:
    """All op sets that fit the device, over the references; core's own alone if ``deterministic``."""
    wish = Wish(kind="ops", names=() if deterministic else ("auto",), many=True, required=False)
    chosen = resolve_wish(installed(), wish, context_of(device, dtype)).chosen
    return Ops([load(offer)(device, dtype, _options(offer)) for offer in chosen], deterministic=deterministic)


def context_of(device: torch.device, dtype: torch.dtype) -> Context:
    """What requirements are checked against."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return Context(device=device.type, capability=capability, dtype=str(dtype).removeprefix("torch."))


def _make(kind: str, env: Any, features: Iterable[str]) -> Any:
    wish = Wish(kind=kind, features=dict.fromkeys(features, "the test"))
    (offer,) = resolve_wish(installed(), wish, context_of(env.device, env.dtype)).chosen
    return load(offer)(replace(env, options=_options(offer)))


def _options(offer: Offer[Spec]) -> Any:
    """The options of the offer's plugin, all at their defaults."""
    model = load_config_model(installed().plugin(offer.plugin))
    return None if model is None else model()
