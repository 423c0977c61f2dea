"""Load plugins: find them, import each under a guard, take its offers, and say what went wrong."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hookline.config.schema import HooklineConfig
from hookline.deprecations import Deprecations
from hookline.errors import HooklineDeprecationWarning, PluginError
from hookline.interfaces.spec import PluginInfo, Spec
from hookline.plugins import hookspecs
from hookline.plugins.contract import judge_hooks, judge_info, judge_spec
from hookline.plugins.discovery import FoundPlugin, find_plugins, put_on_path, source_tree_from
from hookline.plugins.kinds import SPEC_TYPES, hook_of
from hookline.plugins.names import near_miss, package_for
from hookline.plugins.offer_checks import check_info, check_spec, explain_failure
from hookline.plugins.registry import BrokenPlugin, DisabledPlugin, LoadedPlugin, Offer, Registry

#: In ``disabled_plugins``: every plugin.
ALL_PLUGINS = "*"
#: What the names of distributions of plugins begin with.
_PREFIX = "hookline-"

_log = logging.getLogger(__name__)


def load_plugins(
    config: HooklineConfig | None = None,
    *,
    source_tree: Sequence[Path] | None = None,
    disabled: Iterable[str] | None = None,
    required: Iterable[str] | None = None,
    prefer: Mapping[str, str] | None = None,
    strict: bool = True,
    deprecations: Deprecations | None = None,
) -> Registry:
    """Find and load all plugins; the config's ``disabled_plugins``, ``required_plugins`` and ``prefer`` apply.

    ``source_tree`` are folders whose sub-folders count as installed (default: HOOKLINE_SOURCE_TREE); those
    with a plugin are put first on sys.path. ``disabled``, ``required`` and ``prefer`` replace the config's;
    ``deprecations`` (default: those of this core) say what plugins must stop using.

    A plugin that does not load, or offers something invalid, is left out, logged as a warning, and listed in
    ``Registry.broken``; one that uses what is deprecated is warned of. Raises ``PluginError`` with every problem
    that the user must settle: no plugin at all, a required one missing, two of one name, a misspelt hook. With
    ``strict=False`` (listings) they are in ``Registry.problems`` instead, and nothing is logged.
    """
    config = config or HooklineConfig()
    loader = _Loader(
        disabled=config.disabled_plugins if disabled is None else disabled,
        prefer=config.prefer if prefer is None else prefer,
        deprecations=deprecations or Deprecations(),
    )
    loader.load(find_plugins(source_tree_from(os.environ) if source_tree is None else source_tree))
    registry = loader.registry(config.required_plugins if required is None else required)
    if not strict:
        return registry
    for broken in registry.broken:
        _log.warning("%s; it is left out", broken)
    for plugin in registry.plugins:
        for sentence in plugin.deprecated:
            _log.warning("%s", sentence)
            file, module = plugin.module.__file__ or "", plugin.module.__name__
            warnings.warn_explicit(sentence, HooklineDeprecationWarning, file, lineno=1, module=module)
    if registry.problems:
        raise PluginError("\n".join(registry.problems))
    return registry


class _Loader:
    def __init__(self, *, disabled: Iterable[str], prefer: Mapping[str, str], deprecations: Deprecations) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        self._manager.add_hookspecs(hookspecs)
        self._off = {_key(name): name for name in disabled}
        self._prefer = prefer
        self._deprecations = deprecations
        self._found: list[FoundPlugin] = []
        self._loaded: list[LoadedPlugin] = []
        self._broken: list[BrokenPlugin] = []
        self._disabled: list[DisabledPlugin] = []
        self._problems: list[str] = []

    def load(self, found: Sequence[FoundPlugin]) -> None:
        self._found = list(found)
        put_on_path([plugin.source_path for plugin in found if plugin.source_path is not None])
        self._check_disabled()
        for plugin in self._without_doubles():
            if ALL_PLUGINS in self._off or _key(plugin.name) in self._off:
                self._disabled.append(
                    DisabledPlugin(name=plugin.name, distribution=plugin.distribution, version=plugin.version)
                )
                continue
            try:
                self._loaded.append(self._load_one(plugin))
            except PluginError as exc:
                self._broken.append(
                    BrokenPlugin(
                        name=plugin.name, distribution=plugin.distribution, version=plugin.version, reason=str(exc)
                    )
                )

    def registry(self, required: Iterable[str]) -> Registry:
        problems = [*self._problems, *(problem for line in required if (problem := self._missing(line)))]
        if not self._loaded:
            problems.append(self._zero_plugins())
        return Registry(
            plugins=self._loaded,
            broken=self._broken,
            disabled=self._disabled,
            problems=problems,
            prefer=self._prefer,
        )

    def _check_disabled(self) -> None:
        """A name in ``disabled_plugins`` that is nearly that of a plugin is a slip that would leave it active."""
        known = {plugin.name for plugin in self._found}
        for key, name in self._off.items():
            if name == ALL_PLUGINS or key in {_key(plugin) for plugin in known}:
                continue
            near = near_miss(name, known)
            if near:
                self._problems.append(
                    f"disabled_plugins names '{name}', which is not installed{near} (installed: {_join(known)})"
                )
            else:
                _log.warning("disabled_plugins names '%s', which is not installed", name)

    def _without_doubles(self) -> list[FoundPlugin]:
        """The plugins with one of each name; pluggy would silently take the first on sys.path."""
        named: dict[str, list[FoundPlugin]] = {}
        for plugin in self._found:
            named.setdefault(_key(plugin.name), []).append(plugin)
        chosen = []
        for name, doubles in named.items():
            key = f"plugins.{doubles[0].name}"
            winner = self._prefer.get(key, self._prefer.get(f"plugins.{name}"))
            wanted = [
                plugin
                for plugin in doubles
                if winner is not None and canonicalize_name(plugin.distribution) == canonicalize_name(winner)
            ]
            if name in self._off or ALL_PLUGINS in self._off:
                chosen.extend(doubles)
                continue
            if not wanted and (len(doubles) > 1 or winner is not None):
                self._problems.append(_doubles(key, doubles, winner))
            chosen.append((wanted or doubles)[0])
        for key in self._prefer:
            kind, _, name = key.partition(".")
            if kind == "plugins" and _key(name) not in named:
                known = {plugin.name for plugin in self._found}
                self._problems.append(f"prefer: no plugin '{name}' is installed{near_miss(name, known)}")
        return chosen

    def _load_one(self, found: FoundPlugin) -> LoadedPlugin:
        module = _import(found)
        info = _check_info(found, module)
        verdicts = [
            judge_info(info, found.distribution, self._deprecations),
            judge_hooks(_hooks_of(module, self._manager), self._deprecations),
        ]
        if refused := [reason for verdict in verdicts for reason in verdict.refused]:
            raise PluginError("; ".join(f"it {reason}" for reason in refused))
        self._register(found, module)
        offers = tuple(
            offer
            for kind, spec_type in SPEC_TYPES.items()
            for offer in self._take_offers(found, module, kind, spec_type)
        )
        return LoadedPlugin(
            info=info,
            module=module,
            distribution=found.distribution,
            version=found.version,
            source_path=found.source_path,
            offers=offers,
            uses_deprecated=tuple(sentence for verdict in verdicts for sentence in verdict.deprecated),
        )

    def _register(self, found: FoundPlugin, module: ModuleType) -> None:
        try:
            self._manager.register(module, name=found.name)
        except (pluggy.PluginValidationError, ValueError) as exc:
            raise PluginError(f"its hooks do not fit: {exc}") from exc
        try:
            # pluggy accepts a misspelt hook and never calls it; only this finds it.
            self._manager.check_pending()
            _check_unmarked(module, self._manager)
        except (pluggy.PluginValidationError, PluginError) as exc:
            self._manager.unregister(module)
            reason = _misspelt(module, self._manager)
            message = reason if reason else str(exc)
            self._problems.append(f"plugin '{found.name}' of {found.distribution} {found.version}: {message}")
            raise PluginError(message) from exc

    def _take_offers(
        self, found: FoundPlugin, module: ModuleType, kind: str, spec_type: type[Spec]
    ) -> Iterable[Offer[Spec]]:
        """Call the plugin's own implementation of one hook, and check all that it yields."""
        hook = hook_of(kind)
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        specs: list[Any] = []
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not module:
                continue
            if implementation.wrapper or implementation.hookwrapper:
                raise PluginError(f"{hook} is a hook wrapper; offers are made by plain functions")
            try:
                offered: Any = implementation.function()
                if offered is None:
                    raise PluginError(f"{hook} returned None; return a list of {spec_type.__name__}, or yield them")
                specs.extend(offered)
            except PluginError:
                raise
            except Exception as exc:
                raise PluginError(f"{hook} failed: {explain_failure(exc)}") from exc
        names = set()
        for spec in specs:
            check_spec(hook, spec_type, spec)
            if spec.name in names:
                raise PluginError(f"{hook} offers '{spec.name}' twice")
            names.add(spec.name)
        return [self._offer(found, spec) for spec in specs]

    def _offer(self, found: FoundPlugin, spec: Spec) -> Offer[Spec]:
        verdict = judge_spec(spec, found.distribution, self._deprecations)
        return Offer(
            spec=spec,
            plugin=found.name,
            distribution=found.distribution,
            version=found.version,
            refused=verdict.refused,
            deprecated=verdict.deprecated,
        )

    def _missing(self, line: str) -> str | None:
        """What is wrong with an entry of ``required_plugins``, a plugin or distribution with version bounds."""
        try:
            wanted = Requirement(line)
        except InvalidRequirement as exc:
            return f"required_plugins: '{line}' is not a requirement like 'hookline-attention>=0.1': {exc}"
        names = {_key(wanted.name)}
        for plugin in self._loaded:
            if names & {_key(plugin.name), canonicalize_name(plugin.distribution)}:
                if wanted.specifier.contains(plugin.version, prereleases=True):
                    return None
                return (
                    f"required plugin '{line}' is not met: {plugin.distribution} {plugin.version} is installed; "
                    f"pip install '{plugin.distribution}{wanted.specifier}'"
                )
        for broken in self._broken:
            if names & {_key(broken.name), canonicalize_name(broken.distribution)}:
                return f"required plugin '{line}' does not load: {broken}"
        for off in self._disabled:
            if names & {_key(off.name), canonicalize_name(off.distribution)}:
                return f"required plugin '{line}' of {off.distribution} {off.version} is disabled by the configuration"
        known = {plugin.name for plugin in self._found} | {plugin.distribution for plugin in self._found}
        # The prefix that nearly all distributions share would make every two of them near.
        bare = wanted.name.removeprefix(_PREFIX)
        near = near_miss(bare, {name.removeprefix(_PREFIX) for name in known})
        package = wanted.name if bare != wanted.name else package_for(wanted.name)
        hint = f"{near} If not," if near else ";"
        return f"required plugin '{line}' is not installed{hint} pip install '{package}{wanted.specifier}'"

    def _zero_plugins(self) -> str:
        if self._disabled and not self._broken:
            return "every installed plugin is disabled, so nothing can be served; enable some of them"
        cause = f" ({'; '.join(str(plugin) for plugin in self._broken)})" if self._broken else ""
        return (
            f"no plugin was found{cause}, and everything but the core loop is one. Either install them "
            "(`pip install hookline`, in a checkout `pip install -r requirements-dev.txt`), or run from a checkout "
            "with HOOKLINE_SOURCE_TREE=plugins"
        )


def _import(found: FoundPlugin) -> ModuleType:
    try:
        return importlib.import_module(found.module)
    except (Exception, SystemExit) as exc:
        raise PluginError(f"importing {found.module} failed: {explain_failure(exc)}") from exc


def _check_info(found: FoundPlugin, module: ModuleType) -> PluginInfo:
    info = vars(module).get("PLUGIN")
    if not isinstance(info, PluginInfo):
        raise PluginError(f"{found.module} has no PLUGIN = PluginInfo(...)")
    if info.name != found.name:
        raise PluginError(
            f"its entry point is called '{found.name}', its PLUGIN.name is '{info.name}'; make them equal"
        )
    check_info(found.module, info)
    return info


def _check_unmarked(module: ModuleType, manager: pluggy.PluginManager) -> None:
    """A hook function without @hookimpl would never be called."""
    for name, value in vars(module).items():
        if not name.startswith("hookline_") or not callable(value):
            continue
        if manager.parse_hookimpl_opts(module, name) is None:
            raise PluginError(f"function {name} lacks @hookimpl, so it would never be called")


def _misspelt(module: ModuleType, manager: pluggy.PluginManager) -> str | None:
    known = [hook_of(kind) for kind in SPEC_TYPES]
    for hook in _hooks_of(module, manager):
        if hook not in known:
            return f"unknown hook '{hook}'{near_miss(hook, known)} (known: {_join(known)})"
    return None


def _hooks_of(module: ModuleType, manager: pluggy.PluginManager) -> list[str]:
    """The hooks that a module implements, whether core has them or not."""
    options = {name: manager.parse_hookimpl_opts(module, name) for name in vars(module)}
    return [given["specname"] or name for name, given in options.items() if given is not None]


def _doubles(key: str, doubles: Sequence[FoundPlugin], winner: str | None) -> str:
    sources = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in doubles)
    unmet = "" if winner is None else f", but not by '{winner}', which prefer names"
    choices = " or ".join(f'"{plugin.distribution}"' for plugin in doubles)
    return (
        f"plugin '{doubles[0].name}' is provided by {sources}{unmet}; say which one wins with "
        f'prefer."{key}" = {choices}, or uninstall one'
    )


def _key(name: str) -> str:
    return name if name == ALL_PLUGINS else canonicalize_name(name)


def _join(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
