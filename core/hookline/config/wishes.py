"""Wishes: what a configuration and a checkpoint ask of each kind of plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hookline.config.checkpoint import Checkpoint, read_chat_template
from hookline.config.model_config import ModelConfig
from hookline.config.schema import HooklineConfig
from hookline.errors import ConfigError, ModelError
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.parsers import FunctionCallParserSpec, ReasoningParserSpec
from hookline.interfaces.spec import Spec
from hookline.plugins.context import AUTO
from hookline.plugins.names import near_miss
from hookline.plugins.registry import Offer, Registry
from hookline.plugins.resolve import Wish

#: kind -> the setting that names plugins of it.
KIND_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "attention_backends": "attention.attention_backend",
        "ops": "execution.ops",
        "schedulers": "schedule.scheduler",
        "schedule_policies": "schedule.schedule_policy",
        "grammar_backends": "grammar.grammar_backend",
        "reasoning_parsers": "output.reasoning_parser",
        "function_call_parsers": "output.tool_call_parser",
        "lora_backends": "lora.lora_backend",
        "api_families": "server.api_families",
    }
)
#: What a setting says when no plugin of its kind is wanted.
NONE = "none"


def model_offer(model: ModelConfig, registry: Registry) -> Offer[ModelSpec]:
    """The offer for the checkpoint's architecture.

    Raises ``ModelError`` naming the known architectures, and ``PluginError`` when several distributions offer
    it and ``prefer."models.<architecture>"`` does not say which one wins.
    """
    offers = registry.offers(ModelSpec)
    for architecture in model.architectures:
        fitting = [offer for offer in offers if architecture in offer.spec.architectures]
        if fitting:
            return registry.preferred("models", architecture, fitting)
    known = sorted({architecture for offer in offers for architecture in offer.spec.architectures})
    unknown = model.architectures[0]
    broken = "".join(f"; {plugin}" for plugin in registry.broken)
    raise ModelError(
        f"unknown architecture '{unknown}' in '{model.path / 'config.json'}'{near_miss(unknown, known)} "
        f"(known: {', '.join(known) or 'none'}); a plugin could bring it, `hookline plugins list` shows yours{broken}"
    )


def model_wish(registry: Registry, offer: Offer[ModelSpec], model: ModelConfig, config: HooklineConfig) -> Wish:
    """The model of the checkpoint's architecture, with the features that the configuration needs of it."""
    others = {
        other.spec.name: f"is for {', '.join(other.spec.architectures)}"
        for other in registry.offers(ModelSpec)
        if other.spec.name != offer.spec.name
    }
    features = {"lora": "lora.lora_adapters"} if config.lora.lora_adapters else {}
    setting = f"'architectures' of {model.path / 'config.json'}"
    return Wish(kind="models", names=(offer.spec.name,), setting=setting, excluded=others, features=features)


def plugin_wishes(
    config: HooklineConfig,
    registry: Registry,
    *,
    for_server: bool,
    model: ModelConfig | None,
    spec: ModelSpec | None,
    tokenizer_path: Path | None,
) -> list[Wish]:
    """One wish per kind but models; without a ``model`` what depends on it is left open."""
    wishes = [
        _attention_wish(config, model),
        _ops_wish(config),
        _one("schedulers", config.schedule.scheduler),
        _one("schedule_policies", config.schedule.schedule_policy),
        _grammar_wish(config),
        *_parser_wishes(config, registry, tokenizer_path),
        _lora_wish(config, spec),
        Wish(kind="poolers", many=True, required=False),
        Wish(kind="logits_processors", many=True, required=False),
        Wish(kind="media_loaders", many=True, required=False),
    ]
    if for_server:
        families = _names(config.server.api_families)
        wishes.append(Wish(kind="api_families", names=families, setting=KIND_SETTINGS["api_families"], many=True))
    return wishes


def adapters_of(
    config: HooklineConfig, checkpoint: Checkpoint, spec: ModelSpec, backends: Sequence[Offer[Spec]]
) -> dict[str, str]:
    """Adapters to load at start: those that the user named, then those of the checkpoint as far as there is room.

    Raises ``ConfigError`` when the user's are too many, and ``ModelError`` when one is not there.
    """
    adapters = {name: str(Path(path).expanduser().resolve()) for name, path in config.lora.lora_adapters.items()}
    limit = config.lora.max_loras
    if len(adapters) > limit:
        raise ConfigError(f"lora.lora_adapters names {len(adapters)} adapters, lora.max_loras is {limit}; raise it")
    for name, path in adapters.items():
        if not Path(path).is_dir():
            raise ModelError(f"adapter '{name}' of lora.lora_adapters: there is no directory '{path}'")
    if not backends or "lora" not in spec.features:
        return adapters
    for name, folder in checkpoint.adapters.items():
        if len(adapters) < limit:
            adapters.setdefault(name, str(folder))
    return adapters


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    """The names of a setting that takes one or several; flags and the environment write them with commas."""
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else tuple(value)


def _one(kind: str, value: str | None, **more: Any) -> Wish:
    names = () if value is None else (value,)
    return Wish(kind=kind, names=names, setting=KIND_SETTINGS[kind], **more)


def _attention_wish(config: HooklineConfig, model: ModelConfig | None) -> Wish:
    names = _names(config.attention.attention_backend)
    setting = KIND_SETTINGS["attention_backends"]
    if not 1 <= len(names) <= 2 or (AUTO in names and len(names) > 1):
        raise ConfigError(
            f"{setting} names {', '.join(names) or 'nothing'}: give one backend, 'auto', or two names, the first for "
            "prefills and the second for decodes"
        )
    if len(set(names)) == 2 and config.execution.deterministic:
        raise ConfigError(
            f"{setting} names {' and '.join(names)}, but with execution.deterministic a token must be the same "
            "whether a prefill or a decode computes it; name one backend"
        )
    return Wish(kind="attention_backends", names=names, setting=setting, features=_attention_features(config, model))


def _attention_features(config: HooklineConfig, model: ModelConfig | None) -> dict[str, str]:
    features = _deterministic(config)
    if config.schedule.enable_mixed_chunk:
        features["mixed"] = "schedule.enable_mixed_chunk"
    if model is not None:
        length = config.model.max_model_len or model.context_len
        # A window as long as the context hides nothing.
        if any(window is not None and window < length for window in model.layer_windows):
            features["mask.window"] = "the checkpoint's sliding window"
    return features


def _deterministic(config: HooklineConfig) -> dict[str, str]:
    return {"deterministic": "execution.deterministic"} if config.execution.deterministic else {}


def _ops_wish(config: HooklineConfig) -> Wish:
    names = _names(config.execution.ops)
    # Without a set, core's own ops run, which are deterministic on any device.
    return Wish(
        kind="ops",
        names=names,
        setting=KIND_SETTINGS["ops"],
        many=True,
        required=False,
        features=_deterministic(config),
    )


def _grammar_wish(config: HooklineConfig) -> Wish:
    names = _names(config.grammar.grammar_backend)
    is_off = names in ((), (NONE,))
    if not config.model.skip_tokenizer_init:
        setting = KIND_SETTINGS["grammar_backends"]
        wanted = () if is_off else names
        return Wish(kind="grammar_backends", names=wanted, setting=setting, many=True, required=False)
    if not is_off and names != (AUTO,):
        raise ConfigError(
            f"grammar.grammar_backend is '{', '.join(names)}', but with model.skip_tokenizer_init there is no "
            "tokenizer to follow a grammar with; use 'none'"
        )
    return Wish(kind="grammar_backends", names=(), setting="model.skip_tokenizer_init")


def _parser_wishes(config: HooklineConfig, registry: Registry, tokenizer_path: Path | None) -> list[Wish]:
    reasoning, calls = config.output.reasoning_parser, config.output.tool_call_parser
    template = ""
    if AUTO in (reasoning, calls) and tokenizer_path is not None and not config.model.skip_tokenizer_init:
        template = read_chat_template(tokenizer_path, config.model.chat_template)
    return [
        _parser_wish("reasoning_parsers", reasoning, registry.offers(ReasoningParserSpec), template),
        _parser_wish("function_call_parsers", calls, registry.offers(FunctionCallParserSpec), template),
    ]


def _parser_wish(
    kind: str,
    value: str | None,
    offers: Sequence[Offer[ReasoningParserSpec] | Offer[FunctionCallParserSpec]],
    template: str,
) -> Wish:
    excluded = {}
    if value == AUTO:
        for offer in offers:
            if reason := _misses_marker(offer.spec, template):
                excluded[offer.spec.name] = reason
    return _one(kind, value, required=False, excluded=excluded)


def _misses_marker(spec: ReasoningParserSpec | FunctionCallParserSpec, template: str) -> str | None:
    """Formats are not guessed: the chat template must hold every marker that the parser declares."""
    if not spec.template_markers:
        return "declares no template markers, so it must be named to be used"
    for marker in spec.template_markers:
        if marker not in template:
            return f"the chat template does not hold '{marker}'"
    return None


def _lora_wish(config: HooklineConfig, spec: ModelSpec | None) -> Wish:
    backend, adapters = config.lora.lora_backend, config.lora.lora_adapters
    if backend == NONE and adapters:
        raise ConfigError("lora.lora_backend is 'none', but lora.lora_adapters names adapters; leave one of them out")
    if backend == NONE:
        return _one("lora_backends", None)
    if backend == AUTO and spec is not None and "lora" not in spec.features and not adapters:
        return Wish(kind="lora_backends", names=(), setting=f"the model family '{spec.name}', which takes no adapters")
    return _one("lora_backends", backend, required=bool(adapters), features=_deterministic(config))
