"""Resolution: from settings and installed plugins to the plan that every process of the engine receives.

Only values that are "auto" (or unset, where the schema says so) are filled in, each with a reason. A value
that the user gave is never changed: what does not fit it is an error.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hookline.config.checkpoint import Checkpoint, locate_checkpoint
from hookline.config.device import DeviceFacts, probe_device
from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.config.schema import HooklineConfig
from hookline.config.settings import all_settings
from hookline.config.wishes import KIND_SETTINGS, adapters_of, model_offer, model_wish, plugin_wishes
from hookline.errors import ConfigError, ModelError, PluginError, ResolutionError
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.spec import Spec
from hookline.plugins.context import AUTO, Context
from hookline.plugins.kinds import spec_type_of
from hookline.plugins.names import near_miss
from hookline.plugins.options import check_options
from hookline.plugins.plan import PluginPlan
from hookline.plugins.registry import Offer, Registry
from hookline.plugins.resolve import Resolution, Wish, choose, refuse, resolve_together, resolve_wish

#: Prefill tokens of one request per pass, by device type.
_CHUNK = {"cpu": 2048, "cuda": 8192}
#: Settings whose ``null`` means "the plugin kind is not used"; the others have the word "none" for that.
_NULLABLE = ("output.reasoning_parser", "output.tool_call_parser")
#: Lists whose word for "none of them" is "none" too.
_OFF_BY_WORD = ("grammar.grammar_backend",)


def resolve_engine(
    config: HooklineConfig,
    registry: Registry,
    *,
    for_server: bool = False,
    device: DeviceFacts | None = None,
) -> EnginePlan:
    """Locate the checkpoint, choose the plugins, and fill every "auto".

    API families are chosen ``for_server`` only. ``device`` replaces the look at this machine's devices.

    Raises ``ModelError`` (no checkpoint, unknown architecture), ``ConfigError`` (settings that conflict),
    ``PluginError`` and ``ResolutionError`` (nothing fits, with every reason).
    """
    options = check_options(config.plugins, registry)
    draft = _Draft(config)
    _fill_device(draft, device)
    settled = _settle_model(draft, registry)
    answers = _choose_plugins(draft, registry, settled, for_server)
    _fill_names(draft, answers)
    if for_server:
        _check_routes(answers["api_families"].chosen)
    adapters = adapters_of(draft.config(), settled.checkpoint, settled.offer.spec, answers["lora_backends"].chosen)
    chosen = [choose(offer) for answer in answers.values() for offer in answer.chosen]
    plugins_used = {spec.plugin for spec in chosen}
    plan = PluginPlan(
        chosen=chosen,
        spare=[choose(offer) for answer in answers.values() for offer in answer.spare],
        source_paths=registry.source_paths,
        options={name: values for name, values in options.items() if name in plugins_used},
        config_models={
            plugin.name: plugin.info.config_model
            for plugin in registry.plugins
            if plugin.info.config_model is not None and plugin.name in plugins_used
        },
    )
    final = draft.config()
    return EnginePlan(
        config_values=final.model_dump(),
        model_path=str(settled.checkpoint.path),
        tokenizer_path=str(settled.tokenizer.path),
        served_model_name=final.server.served_model_name or settled.checkpoint.short_name,
        plugins=plan,
        adapters=adapters,
        resolved=draft.filled,
        refusals={
            kind: {refusal.offer.spec.name: list(refusal.reasons) for refusal in answer.refusals}
            for kind, answer in answers.items()
            if answer.refusals
        },
    )


def explain(
    kind: str, config: HooklineConfig, registry: Registry, *, device: DeviceFacts | None = None
) -> tuple[Resolution, str | None]:
    """How one kind resolves, for `hookline plugins why`: the answer, and the error if there is none.

    Works without a checkpoint too; then what depends on the model is not checked, and the error says so.
    """
    spec_type_of(kind)
    draft = _Draft(config)
    _fill_device(draft, device)
    for_server = kind == ApiFamilySpec.kind
    model = note = None
    try:
        model = _settle_model(draft, registry)
    except (ModelError, PluginError, ConfigError) as exc:
        note = f"without a model, what depends on it is not checked: {exc}"
    wishes = {wish.kind: wish for wish in _wishes(draft, registry, model, for_server=for_server)}
    # Kinds that no engine chooses by resolution (checkpoint sources): all that fit.
    wish = wishes.get(kind, Wish(kind=kind, many=True, required=False))
    try:
        if model is not None and kind in wishes:
            return _choose_plugins(draft, registry, model, for_server)[kind], note
        return resolve_wish(registry, wish, draft.context(model)), note
    except (PluginError, ConfigError) as exc:
        free = Wish(kind=kind, many=True, required=False, features=wish.features, excluded=wish.excluded)
        refusals = resolve_wish(registry, free, draft.context(model)).refusals
        return Resolution(wish=wish, chosen=(), refusals=refusals), str(exc)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """The checkpoint and what serves it."""

    checkpoint: Checkpoint
    tokenizer: Checkpoint
    config: ModelConfig
    offer: Offer[ModelSpec]


#: Hidden size from which a second thread makes one request faster on a CPU (docs/performance.md).
_THREADS_PAY_FROM = 1024


class _Draft:
    """The configuration while it is being filled."""

    def __init__(self, config: HooklineConfig) -> None:
        self.values: dict[str, Any] = copy.deepcopy(config.model_dump())
        self.filled: list[tuple[str, str, str]] = []
        self._given = {
            path
            for path, setting in all_settings().items()
            if setting.section and setting.leaf in getattr(config, setting.section).model_fields_set
        }
        self.capability: tuple[int, int] | None = None

    def get(self, path: str) -> Any:
        section, _, leaf = path.partition(".")
        return self.values[section][leaf]

    def is_given(self, path: str) -> bool:
        """Whether the user set the value to something else than "auto"."""
        return path in self._given and self.get(path) != AUTO

    def fill(self, path: str, value: Any, reason: str) -> None:
        section, _, leaf = path.partition(".")
        self.values[section][leaf] = value
        self.filled.append((path, _show(value), reason))

    def config(self) -> HooklineConfig:
        return HooklineConfig.model_validate(self.values)

    def context(self, model: _Model | None) -> Context:
        """The facts so far."""
        dtype = self.get("model.dtype")
        return Context(
            device=self.get("execution.device"),
            capability=self.capability,
            dtype=None if dtype == AUTO else dtype,
            head_dim=None if model is None else model.config.head_dim,
            config={path: self.get(path) for path, setting in all_settings().items() if setting.section},
        )


def _fill_device(draft: _Draft, device: DeviceFacts | None) -> None:
    asked = draft.get("execution.device")
    if asked == "cpu":
        return
    facts = device or probe_device()
    if asked == "cuda" and not facts.has_cuda:
        raise ConfigError(f"execution.device is 'cuda', but {facts.reason}; use 'cpu' or 'auto'")
    if facts.has_cuda:
        draft.capability = facts.capability
    if asked == AUTO:
        draft.fill("execution.device", "cuda" if facts.has_cuda else "cpu", facts.reason)


def _settle_model(draft: _Draft, registry: Registry) -> _Model:
    """Locate the checkpoint, find the model that runs it, and fill what follows from both."""
    section = draft.config().model
    checkpoint = locate_checkpoint(section.model, registry, revision=section.revision, offline=section.offline)
    if section.model is None:
        draft.fill("model.model", checkpoint.name, checkpoint.reason)
    tokenizer = checkpoint
    if section.tokenizer is not None:
        tokenizer = locate_checkpoint(section.tokenizer, registry, offline=section.offline)
    model_config = ModelConfig.load(checkpoint.path)
    if model_config.quantization is not None:
        method = model_config.quantization.get("quant_method", "unknown method")
        raise ModelError(
            f"the weights in '{checkpoint.path}' are quantised ({method}), and no plugin loads those; "
            "use a checkpoint in float32, bfloat16 or float16"
        )
    offer = model_offer(model_config, registry)
    _fill_family_defaults(draft, registry, offer)
    _fill_sizes(draft, model_config)
    return _Model(checkpoint=checkpoint, tokenizer=tokenizer, config=model_config, offer=offer)


def _fill_family_defaults(draft: _Draft, registry: Registry, offer: Offer[ModelSpec]) -> None:
    """The layer below files and above the built-ins: what a model's family wants."""
    settings = all_settings()
    for path, value in offer.spec.defaults.items():
        if path not in settings or not settings[path].section:
            raise PluginError(
                f"model '{offer.spec.name}' of {offer.source} sets a default for '{path}', which is no "
                f"setting{near_miss(path, settings)}"
            )
        if draft.is_given(path):
            continue
        kind = next((kind for kind, setting in KIND_SETTINGS.items() if setting == path), None)
        if kind is not None and not _is_usable(draft, registry, kind, value):
            # Nobody named it, so a plugin that is missing or unfit leaves the choice to resolution.
            continue
        draft.fill(path, value, f"default of the model family '{offer.spec.name}'")
    try:
        draft.config()
    except ValidationError as exc:
        raise PluginError(
            f"the defaults of model '{offer.spec.name}' of {offer.source} do not fit the schema: {exc}"
        ) from exc


def _is_usable(draft: _Draft, registry: Registry, kind: str, name: object) -> bool:
    wish = Wish(kind=kind, names=(str(name),))
    named = [offer for offer in registry.of_kind(kind) if offer.spec.name == name]
    return any(not refuse(offer, wish, draft.context(None)) for offer in named)


def _fill_sizes(draft: _Draft, model: ModelConfig) -> None:
    device = draft.get("execution.device")
    if draft.get("model.dtype") == AUTO:
        if device == "cpu":
            # CPUs without native bfloat16 convert at every operation: slower, and less exact besides.
            draft.fill("model.dtype", "float32", "float32 is the fastest and most exact on CPU")
        else:
            draft.fill("model.dtype", model.dtype, "the checkpoint's dtype")
    if device == "cpu" and draft.get("execution.cpu_threads") is None and model.hidden_size < _THREADS_PAY_FROM:
        reason = f"with a hidden size of {model.hidden_size} threads wait for each other longer than they compute"
        draft.fill("execution.cpu_threads", 1, reason)
    length = draft.get("model.max_model_len")
    if length is None:
        draft.fill("model.max_model_len", model.context_len, "the context length of the checkpoint")
    elif length > model.context_len:
        raise ConfigError(
            f"model.max_model_len is {length}, but the checkpoint was made for {model.context_len} tokens; lower it"
        )
    if draft.get("model.load_format") == AUTO:
        draft.fill("model.load_format", "safetensors", "the format of checkpoints")


def _wishes(draft: _Draft, registry: Registry, model: _Model | None, *, for_server: bool) -> list[Wish]:
    wishes = plugin_wishes(
        draft.config(),
        registry,
        for_server=for_server,
        model=None if model is None else model.config,
        spec=None if model is None else model.offer.spec,
        tokenizer_path=None if model is None else model.tokenizer.path,
    )
    return wishes if model is None else [model_wish(registry, model.offer, model.config, draft.config()), *wishes]


def _choose_plugins(draft: _Draft, registry: Registry, model: _Model, for_server: bool) -> dict[str, Resolution]:
    wishes = _wishes(draft, registry, model, for_server=for_server)
    answers = resolve_together(registry, wishes, draft.context(model))
    if draft.get("cache.page_size") == AUTO:
        size, reason = _page_size(answers)
        draft.fill("cache.page_size", size, reason)
    _fill_chunk(draft)
    # Again, now that the sizes are known: a choice that they refuse gives way to another.
    return resolve_together(registry, wishes, draft.context(model))


def _page_size(answers: Mapping[str, Resolution]) -> tuple[int, str]:
    """1 unless a chosen plugin works with larger pages only; then the smallest size that all take."""
    bound = [offer for answer in answers.values() for offer in answer.chosen if offer.spec.requires.page_sizes]
    for offer in bound:
        sizes = offer.spec.requires.page_sizes
        if 1 not in sizes:
            common = frozenset.intersection(*(other.spec.requires.page_sizes for other in bound))
            return min(common or sizes), f"{offer.spec.kind} '{offer.spec.name}' of {offer.source} needs pages"
    return 1, "no chosen plugin needs larger pages"


def _fill_chunk(draft: _Draft) -> None:
    page = draft.get("cache.page_size")
    chunk = draft.get("schedule.chunked_prefill_size")
    if chunk == AUTO:
        device = draft.get("execution.device")
        size = max(page, _CHUNK[device] // page * page)
        draft.fill("schedule.chunked_prefill_size", size, f"keeps one pass short on {device}")
    elif chunk is not None and chunk % page:
        raise ConfigError(
            f"schedule.chunked_prefill_size ({chunk}) must be a multiple of cache.page_size ({page}), "
            f"like {max(1, chunk // page) * page}"
        )


def _fill_names(draft: _Draft, answers: Mapping[str, Resolution]) -> None:
    """Replace "auto" by the names of the chosen plugins."""
    for kind, path in KIND_SETTINGS.items():
        answer = answers.get(kind)
        if answer is None or draft.get(path) != AUTO:
            continue
        refused = "; ".join(f"{refusal.offer.spec.name} {refusal.reasons[0]}" for refusal in answer.refusals)
        reason = f"{answer.reason} (refused: {refused})" if refused else answer.reason
        if answer.wish.many and (answer.names or path not in _OFF_BY_WORD):
            draft.fill(path, list(answer.names), reason)
        elif answer.names:
            draft.fill(path, answer.names[0], reason)
        else:
            draft.fill(path, None if path in _NULLABLE else "none", reason)


def _check_routes(families: Sequence[Offer[Spec]]) -> None:
    """Two families with one path would shadow each other."""
    owners: dict[str, Offer[Spec]] = {}
    for offer in families:
        assert isinstance(offer.spec, ApiFamilySpec)
        for path in offer.spec.paths:
            other = owners.setdefault(path, offer)
            if other is not offer:
                raise ResolutionError(
                    f"route '{path}' is served by api_families '{other.spec.name}' of {other.source} and "
                    f"'{offer.spec.name}' of {offer.source}; list only one of them in server.api_families"
                )


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
