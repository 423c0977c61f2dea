"""Names of a new plugin: what follows from NAME, and whether it is valid and free."""

from __future__ import annotations

import importlib.metadata
import keyword
import re
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from hookline.config.schema import NONE_WORDS
from hookline.errors import PluginError
from hookline.plugins.registry import BrokenPlugin, DisabledPlugin, LoadedPlugin, Registry
from hookline.scaffold.kinds import ScaffoldKind
from hookline.scaffold.shipped import SHIPPED_OFFERS, SHIPPED_PLUGINS

PREFIX = "hookline-"
#: Words that mean something else where an offer is named.
RESERVED = ("auto", *NONE_WORDS)

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginNames:
    """What a plugin called ``name`` is called elsewhere."""

    #: The entry point, the offer, and the section of options: "my-policy".
    name: str

    @property
    def distribution(self) -> str:
        """ "hookline-my-policy"."""
        return PREFIX + self.name.replace("_", "-")

    @property
    def package(self) -> str:
        """ "hookline_my_policy"."""
        return self.distribution.replace("-", "_")

    @property
    def class_name(self) -> str:
        """ "MyPolicy"."""
        return "".join(part.capitalize() for part in re.split("[-_]", self.name))


def checked_names(name: str, kind: ScaffoldKind, registry: Registry) -> PluginNames:
    """The names of a new plugin of that kind; ``PluginError`` if ``name`` is not valid or not free."""
    _check_valid(name)
    names = PluginNames(name=name)
    taken = _taken_by(names, kind, registry)
    if taken is not None:
        raise PluginError(f"the name '{name}' is taken: {taken}")
    return names


def _check_valid(name: str) -> None:
    if name.startswith((PREFIX, "hookline_")) and len(name) > len(PREFIX):
        bare = name[len(PREFIX) :]
        raise PluginError(f"the distribution gets the prefix '{PREFIX}' by itself; name the plugin '{bare}'")
    if not _NAME.fullmatch(name):
        meant = "-".join(re.findall("[a-z0-9]+", name.lower())).lstrip("0123456789-")
        hint = f"; did you mean '{meant}'?" if _NAME.fullmatch(meant) else ""
        raise PluginError(
            f"'{name}' cannot name a distribution and a package{hint} (lower-case letters and digits, a letter "
            "first; words joined by single '-' or '_')"
        )
    if keyword.iskeyword(name) or keyword.iskeyword(name.capitalize()):
        raise PluginError(f"'{name}' is a keyword of Python, which no class or module can be called; add a word to it")
    if name in RESERVED:
        raise PluginError(f"'{name}' has a meaning of its own in settings that name an offer; choose another name")


def _taken_by(names: PluginNames, kind: ScaffoldKind, registry: Registry) -> str | None:
    """Who has the name already, and what to do; ``None`` if it is free."""
    key = canonicalize_name(names.name)
    if key in SHIPPED_PLUGINS:
        return f"Hookline ships a plugin of that name, in {names.distribution}; choose another name"
    installed: list[LoadedPlugin | BrokenPlugin | DisabledPlugin]
    installed = [*registry.plugins, *registry.broken, *registry.disabled]
    for plugin in installed:
        if key == canonicalize_name(plugin.name) or plugin.distribution == names.distribution:
            return (
                f"{plugin.distribution} {plugin.version} is installed here and provides a plugin '{plugin.name}'; "
                "choose another name, or uninstall it if you begin again"
            )
    for offers in kind.offers:
        for offer in registry.of_kind(offers):
            if key == canonicalize_name(offer.spec.name):
                return f"{offer.distribution} {offer.version} offers {offers} '{offer.spec.name}'; choose another name"
        if key in map(canonicalize_name, SHIPPED_OFFERS[offers]):
            return f"Hookline ships an offer of that name ({offers}); choose another name"
    try:
        version = importlib.metadata.version(names.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    return f"the distribution {names.distribution} {version} is installed here; choose another name, or uninstall it"
