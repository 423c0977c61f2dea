"""PluginPlan: what was chosen in the launcher, as data that child processes receive and load exactly."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import msgspec

from hookline.errors import PluginError
from hookline.plugins.discovery import put_on_path, version_of
from hookline.plugins.targets import fault_of_target


class ChosenSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One chosen offer."""

    kind: str
    name: str
    target: str
    #: The distribution and version that made the offer; a child that finds another version refuses. An empty
    #: version (a plan made by hand) is not checked.
    distribution: str
    version: str
    #: The version of the kind's contract that the target was written for.
    api_version: int = 1
    #: Name of the plugin (entry point); its options are ``config.plugins[plugin]``.
    plugin: str
    features: list[str] = []
    #: "module:function" that names what can be compiled ahead, or "".
    prebuild: str = ""
    #: Head dimensions that it takes; empty: any, or it has nothing to do with heads.
    head_dims: list[int] = []
    #: Further fields of the spec that its kind's user needs ("kinds" of a grammar backend).
    details: dict[str, Any] = {}


class PluginPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything chosen, in order of preference within a kind."""

    chosen: list[ChosenSpec] = []
    #: What would have fitted too and was not needed: errors name it.
    spare: list[ChosenSpec] = []
    #: Folders of a source tree that counts as installed; put first on sys.path in children.
    source_paths: list[str] = []
    #: Options of each plugin, checked by its config model: plugin -> plain values.
    options: dict[str, dict[str, Any]] = {}
    #: plugin -> "module:Model" of its options.
    config_models: dict[str, str] = {}

    def of_kind(self, kind: str) -> list[ChosenSpec]:
        """The chosen specs of a kind, best first."""
        return [spec for spec in self.chosen if spec.kind == kind]

    def one(self, kind: str) -> ChosenSpec:
        """The one chosen spec of a kind; ``PluginError`` if none was chosen."""
        specs = self.of_kind(kind)
        if not specs:
            raise PluginError(f"no {kind} was chosen for this engine; `hookline plugins why {kind}` says why")
        return specs[0]

    def named(self, kind: str, name: str) -> ChosenSpec:
        """The chosen spec of that name; ``PluginError`` listing the chosen ones otherwise."""
        for spec in self.of_kind(kind):
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.of_kind(kind)) or "none"
        raise PluginError(f"{kind} '{name}' is not part of this engine (chosen: {known})")

    def load(self, spec: ChosenSpec) -> Any:
        """Import the target of a chosen spec.

        Raises ``PluginError`` naming the distribution when this process has another version of it than the
        launcher chose, when the target does not load, and when it is not what its kind calls.
        """
        value = self.load_target(spec, spec.target)
        fault = fault_of_target(spec.kind, value)
        if fault is not None:
            raise PluginError(
                f"{spec.kind} '{spec.name}' of {spec.distribution} {spec.version}: its target '{spec.target}' {fault}"
                f"{_way_out(spec)}"
            )
        return value

    def load_target(self, spec: ChosenSpec, target: str) -> Any:
        """Import something else that a chosen spec names: "package.module:attribute". Raises as ``load`` does."""
        put_on_path(self.source_paths)
        module_name, _, attribute = target.partition(":")
        if module_name not in sys.modules:
            self._check_version(spec)
        try:
            value: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                value = getattr(value, part)
        except (Exception, SystemExit) as exc:
            raise PluginError(
                f"{spec.kind} '{spec.name}' of {spec.distribution} {spec.version} does not load from "
                f"'{target}': {type(exc).__name__}: {exc}{_way_out(spec)}"
            ) from exc
        return value

    def _check_version(self, spec: ChosenSpec) -> None:
        found = version_of(spec.distribution, self.source_paths)
        if spec.version and found != spec.version:
            here = "is not installed" if found is None else f"{found} is installed"
            raise PluginError(
                f"{spec.kind} '{spec.name}' was chosen from {spec.distribution} {spec.version}, but in this process "
                f"{spec.distribution} {here}; start the server again after changing packages"
            )

    def options_of(self, spec: ChosenSpec) -> Any:
        """The options of the spec's plugin as its config model, or ``None`` if it has none."""
        target = self.config_models.get(spec.plugin)
        if target is None:
            return None
        module_name, _, attribute = target.partition(":")
        model = getattr(importlib.import_module(module_name), attribute)
        return model(**self.options.get(spec.plugin, {}))


def _way_out(spec: ChosenSpec) -> str:
    """Whoever merely has the plugin installed can run without it."""
    return f"; repair {spec.distribution}, or run without it: --no-plugin {spec.plugin}" if spec.plugin else ""
