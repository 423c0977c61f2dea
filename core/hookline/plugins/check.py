"""Check: what is wrong with each installed plugin, what will be, and what its offers would take to run here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hookline.config.device import DeviceFacts, probe_device
from hookline.config.schema import HooklineConfig
from hookline.config.settings import all_settings
from hookline.errors import HooklineError
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.spec import Spec
from hookline.plugins.conflicts import Conflict, find_conflicts
from hookline.plugins.context import AUTO, Context, Unmet, find_unmet
from hookline.plugins.contract import unknown_features
from hookline.plugins.kinds import SPEC_TYPES
from hookline.plugins.names import near_miss
from hookline.plugins.options import load_config_model
from hookline.plugins.plan import PluginPlan
from hookline.plugins.registry import LoadedPlugin, Offer, Registry
from hookline.plugins.resolve import choose


@dataclass(slots=True, kw_only=True)
class OfferCheck:
    """One offer: how it fits this core and this machine."""

    kind: str
    name: str
    target: str
    api_version: int
    #: What is wrong with it; whole sentences.
    faults: list[str]
    #: What a later core will refuse.
    deprecated: list[str]
    #: What does not hold on this machine with this configuration: no fault.
    unmet: list[Unmet]
    #: Whether the implementation was imported and is what its kind calls; ``None`` when that was not tried.
    is_imported: bool | None = None


@dataclass(slots=True, kw_only=True)
class PluginCheck:
    """One plugin."""

    name: str
    distribution: str
    version: str
    #: "ok", "failed", "broken" (it does not load) or "disabled".
    status: str
    api_version: int | None = None
    #: Names of its options, if it has any.
    options: list[str] = field(default_factory=list)
    offers: list[OfferCheck] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    deprecated: list[str] = field(default_factory=list)
    #: What is worth knowing and wrong with nobody: conflicts that are settled, paths that exclude each other.
    notes: list[str] = field(default_factory=list)

    @property
    def all_faults(self) -> list[str]:
        """Its own and those of its offers."""
        return [*self.faults, *(fault for offer in self.offers for fault in offer.faults)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Every plugin that was asked for, and what stops an engine whatever plugin it uses."""

    plugins: list[PluginCheck]
    problems: list[str]

    @property
    def faults(self) -> list[str]:
        """All that is wrong, each once."""
        return list(dict.fromkeys([*(fault for plugin in self.plugins for fault in plugin.all_faults), *self.problems]))


def check_plugins(
    registry: Registry,
    config: HooklineConfig,
    *,
    name: str | None = None,
    load: bool = False,
    facts: DeviceFacts | None = None,
) -> CheckReport:
    """Check all plugins, or the one of a ``name`` (then faults of others are left out).

    With ``load`` every implementation is imported whose requirements are met here. ``facts`` replace the look
    at this machine's devices. Raises ``PluginError`` for a name that is not installed.
    """
    context = machine_context(config, facts)
    conflicts = find_conflicts(registry, config)
    plan = PluginPlan(source_paths=registry.source_paths) if load else None
    plugins = [
        _check_plugin(plugin, context, [item for item in conflicts if plugin.name in item.plugins], plan)
        for plugin in registry.plugins
        if name in (None, plugin.name)
    ]
    plugins += [
        PluginCheck(
            name=broken.name,
            distribution=broken.distribution,
            version=broken.version,
            status="broken",
            faults=[str(broken)],
        )
        for broken in registry.broken
        if name in (None, broken.name)
    ]
    plugins += [
        PluginCheck(name=off.name, distribution=off.distribution, version=off.version, status="disabled")
        for off in registry.disabled
        if name in (None, off.name)
    ]
    if not plugins and name is not None:
        registry.plugin(name)
    problems = [*registry.problems, *(item.sentence for item in conflicts if not item.plugins)]
    if name is not None:
        sources = [f"'{name}'", *(plugin.distribution for plugin in plugins)]
        problems = [problem for problem in problems if any(source in problem for source in sources)]
    return CheckReport(plugins=plugins, problems=problems)


def machine_context(config: HooklineConfig, facts: DeviceFacts | None = None) -> Context:
    """The facts of this machine and configuration; those of a model are not known."""
    facts = facts or probe_device()
    device = config.execution.device
    values = config.model_dump()
    return Context(
        device=device if device != AUTO else "cuda" if facts.has_cuda else "cpu",
        capability=facts.capability,
        dtype=None if config.model.dtype == AUTO else config.model.dtype,
        config={
            path: values[setting.section][setting.leaf] for path, setting in all_settings().items() if setting.section
        },
    )


def _check_plugin(
    plugin: LoadedPlugin, context: Context, conflicts: list[Conflict], plan: PluginPlan | None
) -> PluginCheck:
    check = PluginCheck(
        name=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        status="ok",
        api_version=plugin.info.api_version,
        offers=[_check_offer(offer, context, plan) for offer in plugin.offers],
        faults=[*_faults_of_info(plugin), *(item.sentence for item in conflicts if item.is_fault)],
        deprecated=plugin.deprecated,
        notes=[item.sentence for item in conflicts if not item.is_fault],
    )
    try:
        model = load_config_model(plugin)
        check.options = [] if model is None else list(model.model_fields)
    except HooklineError as exc:
        check.faults.append(str(exc))
    if check.all_faults:
        check.status = "failed"
    return check


def _faults_of_info(plugin: LoadedPlugin) -> Iterator[str]:
    source = f"plugin '{plugin.name}' of {plugin.distribution}"
    for kind in sorted({offer.spec.kind for offer in plugin.offers} - set(plugin.info.provides)):
        yield f"{source} offers {kind}, which its PLUGIN does not list; add it to provides"
    for kind in plugin.info.provides:
        if kind not in SPEC_TYPES:
            yield f"{source} lists '{kind}' in provides, which is no kind{near_miss(kind, SPEC_TYPES)}"


def _check_offer(offer: Offer[Spec], context: Context, plan: PluginPlan | None) -> OfferCheck:
    spec = offer.spec
    where = f"{spec.kind} '{spec.name}' of {offer.source}"
    check = OfferCheck(
        kind=spec.kind,
        name=spec.name,
        target=spec.target,
        api_version=spec.api_version,
        faults=[f"{where} {reason}" for reason in (*offer.refused, *_faults_of_spec(spec))],
        deprecated=list(offer.deprecated),
        unmet=find_unmet(spec.requires, context),
    )
    # A package or a device that is not there explains a failing import: that is no fault of the plugin.
    if plan is not None and not check.unmet:
        try:
            plan.load(choose(offer))
            check.is_imported = True
        except HooklineError as exc:
            check.is_imported = False
            check.faults.append(str(exc))
    return check


def _faults_of_spec(spec: Spec) -> Iterator[str]:
    """What the types of the fields do not tell."""
    settings = all_settings()
    yield from (f"declares the feature {clause}" for clause in unknown_features(type(spec), spec.features))
    for kind, features in spec.imposes.items():
        yield from (f"imposes the feature {clause}" for clause in unknown_features(SPEC_TYPES[kind], features))
    for path in spec.requires.config:
        if path not in settings:
            yield f"requires a value of '{path}', which is no setting{near_miss(path, settings)}"
    if isinstance(spec, ModelSpec):
        if not spec.architectures:
            yield "names no architectures, so no checkpoint would choose it"
        for path in spec.defaults:
            if path not in settings:
                yield f"sets a default for '{path}', which is no setting{near_miss(path, settings)}"
    if isinstance(spec, ApiFamilySpec):
        if not spec.paths:
            yield "declares no paths, and may serve only those that it declares"
        for path in sorted({*spec.admin_paths, *spec.open_paths} - set(spec.paths)):
            yield f"sets the access of '{path}', which is not in its paths{near_miss(path, spec.paths)}"
