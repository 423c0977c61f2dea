"""Deprecations: what plugins must stop using, since when, until when, and what to do instead.

An entry warns from the minor release ``since`` on, and is an error from ``removed`` on, at least one minor
release later. It stays in the list after that, so that the error keeps saying what to do.
"""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar

from packaging.version import Version

from hookline._version import __version__
from hookline.errors import HooklineDeprecationWarning, PluginError

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Subject = Literal["hook", "field", "feature", "contract", "function"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """One thing that goes away."""

    subject: Subject
    #: A hook: "hookline_poolers". A field: "PoolerSpec.needs_all_tokens", "PluginInfo.provides". A feature:
    #: "attention_backends: sinks". A version of a family's contract: "poolers 1", of the contract as a whole:
    #: "PluginInfo 1". A public function or class: "hookline.text.stops.find".
    name: str
    #: The release that begins to warn: "0.2".
    since: str
    #: The release that refuses: "0.3".
    removed: str
    #: What to do, as an instruction: "offer it through hookline_poolers".
    instead: str

    def __post_init__(self) -> None:
        if _minor(self.removed) <= _minor(self.since):
            raise ValueError(f"{self} must warn for one minor release at least before it is removed")

    def __str__(self) -> str:
        if self.subject == "contract":
            family, _, version = self.name.rpartition(" ")
            return f"version {version} of {family}"
        return f"the {self.subject} {self.name}"


#: Everything that was ever deprecated.
DEPRECATIONS: tuple[Deprecation, ...] = ()


class Deprecations:
    """The list as one version of core sees it."""

    def __init__(self, entries: Iterable[Deprecation] = DEPRECATIONS, *, version: str = __version__) -> None:
        self.version = version
        self._entries = {(entry.subject, entry.name): entry for entry in entries}

    def find(self, subject: Subject, name: str) -> Deprecation | None:
        """The entry of a thing, if it is deprecated or removed in this version; ``None`` if it may be used."""
        entry = self._entries.get((subject, name))
        if entry is None or _minor(self.version) < _minor(entry.since):
            return None
        return entry

    def is_removed(self, entry: Deprecation) -> bool:
        """Whether this version refuses it."""
        return _minor(self.version) >= _minor(entry.removed)

    def fate(self, entry: Deprecation) -> str:
        """What becomes of it, and what to do: "was removed in hookline-core 0.3 (this is 0.3.1); ..."."""
        if self.is_removed(entry):
            state = f"was removed in hookline-core {entry.removed} (this is {self.version})"
        else:
            state = f"is deprecated since hookline-core {entry.since} and will be refused by {entry.removed}"
        return f"{state}; {entry.instead}"


def deprecated(
    entry: Deprecation, deprecations: Deprecations | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Mark a public function or class that plugins may use: its calls warn, and after ``removed`` they raise.

    The warning points at the caller, and one line of the log names the caller's module. Raises ``PluginError``.
    """
    seen = deprecations or Deprecations([entry])

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        told: set[str] = set()

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            found = seen.find(entry.subject, entry.name)
            if found is not None:
                _tell(seen, found, told)
            return function(*args, **kwargs)

        return call

    return decorate


def _tell(deprecations: Deprecations, entry: Deprecation, told: set[str]) -> None:
    # This function, the wrapper, and then whoever called it.
    caller = str(sys._getframe(2).f_globals.get("__name__", "?"))
    sentence = f"{caller} uses {entry}, which {deprecations.fate(entry)}"
    if deprecations.is_removed(entry):
        raise PluginError(sentence)
    if caller not in told:
        told.add(caller)
        _log.warning("%s", sentence)
    warnings.warn(sentence, HooklineDeprecationWarning, stacklevel=3)


def _minor(version: str) -> tuple[int, ...]:
    """(0, 2) for "0.2.1"; a development release counts as the minor release that it leads to."""
    release = Version(version).release
    return (*release, 0)[:2]
