"""Registry: every offer of every loaded plugin, typed, with where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from packaging.utils import canonicalize_name

from hookline.errors import PluginError
from hookline.interfaces.spec import PluginInfo, Spec
from hookline.plugins.kinds import SPEC_TYPES, spec_type_of
from hookline.plugins.names import near_miss, package_for, unknown_name

S = TypeVar("S", bound=Spec)
S_co = TypeVar("S_co", bound=Spec, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Generic[S_co]):
    """A spec and who offers it."""

    spec: S_co
    plugin: str
    distribution: str
    version: str
    #: Why this core does not use it, whoever asks: another version of the contract, something that was removed.
    refused: tuple[str, ...] = ()
    #: What it uses that a later core will refuse.
    deprecated: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The distribution with its version, for messages."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPlugin:
    """A plugin whose module was imported and whose offers were taken."""

    info: PluginInfo
    module: ModuleType
    distribution: str
    version: str
    source_path: str | None
    offers: tuple[Offer[Spec], ...]
    #: What the plugin itself, not one of its offers, uses that a later core will refuse.
    uses_deprecated: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def deprecated(self) -> list[str]:
        """A sentence for each thing that the plugin and its offers must stop using."""
        source = f"plugin '{self.name}' of {self.distribution} {self.version}"
        return [f"{source} {reason}" for reason in self.uses_deprecated] + [
            f"{offer.spec.kind} '{offer.spec.name}' of {source} {reason}"
            for offer in self.offers
            for reason in offer.deprecated
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPlugin:
    """A plugin that is installed and offers nothing, because something is wrong with it."""

    name: str
    distribution: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"plugin '{self.name}' of {self.distribution} {self.version} is broken: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisabledPlugin:
    """A plugin that is installed and was switched off; its module was not imported."""

    name: str
    distribution: str
    version: str


class Registry:
    """What the loaded plugins offer. Made by ``load_plugins``; does not change afterwards.

    ``prefer`` maps "kind.name" to the distribution whose offer wins when several make it. ``problems`` are
    sentences about faults that must stop an engine from starting (``load_plugins`` raises them unless asked
    not to).
    """

    def __init__(
        self,
        *,
        plugins: Iterable[LoadedPlugin] = (),
        broken: Iterable[BrokenPlugin] = (),
        disabled: Iterable[DisabledPlugin] = (),
        problems: Iterable[str] = (),
        prefer: Mapping[str, str] | None = None,
    ) -> None:
        self.plugins: tuple[LoadedPlugin, ...] = tuple(plugins)
        self.broken: tuple[BrokenPlugin, ...] = tuple(broken)
        self.disabled: tuple[DisabledPlugin, ...] = tuple(disabled)
        self.prefer: dict[str, str] = dict(prefer or {})
        self._offers: dict[str, dict[str, Offer[Spec]]] = {kind: {} for kind in SPEC_TYPES}
        found = [self._settle(kind, name, offers) for (kind, name), offers in self._by_name().items()]
        found.extend(self._wrong_preference(key) for key in self.prefer)
        self.problems: tuple[str, ...] = (*problems, *(problem for problem in found if problem))

    def offers(self, spec_type: type[S]) -> tuple[Offer[S], ...]:
        """All offers of a kind, best first: by priority, then by name."""
        offers = self._offers[spec_type.kind].values()
        ranked = sorted(offers, key=lambda offer: (-offer.spec.priority, offer.spec.name))
        return cast(tuple[Offer[S], ...], tuple(ranked))

    def of_kind(self, kind: str) -> tuple[Offer[Spec], ...]:
        """All offers of a kind, best first; ``PluginError`` for an unknown kind."""
        return self.offers(spec_type_of(kind))

    def get(self, spec_type: type[S], name: str) -> Offer[S]:
        """The offer of that name; ``PluginError`` with the near miss, or the package to install."""
        offer = self._offers[spec_type.kind].get(name)
        if offer is None:
            raise PluginError(self.unknown(spec_type.kind, name))
        return cast(Offer[S], offer)

    def unknown(self, kind: str, name: str) -> str:
        """The sentence for a name that no loaded plugin offers."""
        known = sorted(self._offers[kind])
        what = (f"{kind[:-3]}y" if kind.endswith("ies") else kind.removesuffix("s")).replace("_", " ")
        near = near_miss(name, known)
        message = f"unknown {what} '{name}'{near} (known: {', '.join(known) or 'none'})"
        package = package_for(name)
        if not near and not any({name, package} & {plugin.name, plugin.distribution} for plugin in self.broken):
            message += f"; a plugin may bring it: pip install {package}"
        for plugin in self.broken:
            message += f"; {plugin}"
        return message

    def plugin(self, name: str) -> LoadedPlugin:
        """The loaded plugin of that name; ``PluginError`` that says whether it is broken, disabled or unknown."""
        for plugin in self.plugins:
            if plugin.name == name:
                return plugin
        for broken in self.broken:
            if broken.name == name:
                raise PluginError(str(broken))
        for off in self.disabled:
            if off.name == name:
                raise PluginError(
                    f"plugin '{name}' of {off.distribution} {off.version} is disabled by the configuration"
                )
        known = sorted(plugin.name for plugin in self.plugins)
        near = near_miss(name, known)
        hint = near or f"; to install it: pip install {package_for(name)}"
        raise PluginError(f"no plugin '{name}' is installed{hint} (installed: {', '.join(known) or 'none'})")

    def preferred(self, kind: str, name: str, offers: Sequence[Offer[S]]) -> Offer[S]:
        """The only offer of a thing, or the one that ``prefer`` names; ``PluginError`` naming all otherwise."""
        key = f"{kind}.{name}"
        winner = self.prefer.get(key)
        if len(offers) == 1 and winner is None:
            return offers[0]
        for offer in offers:
            if winner is not None and canonicalize_name(offer.distribution) == canonicalize_name(winner):
                return offer
        raise PluginError(_ambiguous(key, offers, winner))

    @property
    def source_paths(self) -> list[str]:
        """Folders of source trees that the loaded plugins come from."""
        return list(dict.fromkeys(plugin.source_path for plugin in self.plugins if plugin.source_path is not None))

    def report(self) -> dict[str, Any]:
        """Everything as plain data, for `hookline plugins list --json` and /plugins."""
        loaded = [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "status": "loaded",
                "summary": plugin.info.summary,
                "source": plugin.source_path or "installed",
                "offers": [{"kind": offer.spec.kind, "name": offer.spec.name} for offer in plugin.offers],
                "deprecated": plugin.deprecated,
            }
            for plugin in self.plugins
        ]
        broken = [
            {
                "name": item.name,
                "distribution": item.distribution,
                "version": item.version,
                "status": "broken",
                "reason": item.reason,
            }
            for item in self.broken
        ]
        disabled = [
            {"name": off.name, "distribution": off.distribution, "version": off.version, "status": "disabled"}
            for off in self.disabled
        ]
        return {"plugins": [*loaded, *broken, *disabled], "problems": list(self.problems)}

    def _by_name(self) -> dict[tuple[str, str], list[Offer[Spec]]]:
        named: dict[tuple[str, str], list[Offer[Spec]]] = {}
        for plugin in self.plugins:
            for offer in plugin.offers:
                named.setdefault((offer.spec.kind, offer.spec.name), []).append(offer)
        return named

    def _settle(self, kind: str, name: str, offers: Sequence[Offer[Spec]]) -> str | None:
        """Enter the winner; answers the problem when nobody wins (then the first stands, for listings)."""
        try:
            self._offers[kind][name] = self.preferred(kind, name, offers)
        except PluginError as exc:
            self._offers[kind][name] = offers[0]
            return str(exc)
        return None

    def _wrong_preference(self, key: str) -> str | None:
        """What is wrong with a key of ``prefer`` that no offer has answered to."""
        kind, _, name = key.partition(".")
        kinds = (*SPEC_TYPES, "plugins")
        if kind not in kinds:
            return f"prefer: '{key}' must be <kind>.<name>; {unknown_name('kind', kind, kinds)}"
        # Plugins are settled by the loader; architectures and checkpoints by their own names, when one is served.
        if name in self._offers.get(kind, {}) or kind in ("plugins", "models", "checkpoint_sources"):
            return None
        return f"prefer: {self.unknown(kind, name)}"


def _ambiguous(key: str, offers: Sequence[Offer[Any]], winner: str | None) -> str:
    sources = " and ".join(offer.source for offer in offers)
    kind, _, name = key.partition(".")
    message = f"{kind} '{name}' is offered by {sources}"
    if winner is not None:
        message += f", but not by '{winner}', which prefer names"
    choices = " or ".join(f'"{offer.distribution}"' for offer in offers)
    return f'{message}; say which one wins with prefer."{key}" = {choices}, or disable one of the plugins'
