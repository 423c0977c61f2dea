"""Registries made of specs, without any distribution."""

from __future__ import annotations

from types import ModuleType

from hookline.deprecations import Deprecations
from hookline.interfaces.spec import PluginInfo, Spec
from hookline.plugins.contract import judge_spec
from hookline.plugins.registry import LoadedPlugin, Offer, Registry


def plugin_of(*specs: Spec, name: str = "mine", distribution: str | None = None, version: str = "1.0") -> LoadedPlugin:
    """A loaded plugin that offers the specs."""
    distribution = distribution or f"fake-{name}"
    offers = tuple(
        Offer(
            spec=spec,
            plugin=name,
            distribution=distribution,
            version=version,
            refused=judge_spec(spec, distribution, Deprecations()).refused,
        )
        for spec in specs
    )
    return LoadedPlugin(
        info=PluginInfo(name=name),
        module=ModuleType(name),
        distribution=distribution,
        version=version,
        source_path=None,
        offers=offers,
    )


def registry_of(*specs: Spec, prefer: dict[str, str] | None = None) -> Registry:
    """A registry with one plugin."""
    return Registry(plugins=[plugin_of(*specs)], prefer=prefer)
