"""Contract: whether this core still speaks what a plugin was written for, and what it must stop using."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any

from hookline.deprecations import Deprecation, Deprecations, Subject
from hookline.interfaces.spec import PluginInfo, Spec
from hookline.plugins.names import near_miss

#: The version of the plugin contract as a whole: what PluginInfo means and how hooks are called.
CONTRACT_VERSION = 1
#: The oldest one that is still served, with a warning.
OLDEST_CONTRACT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What core thinks of a plugin or an offer: sentences that begin in lower case."""

    #: Why this core does not use it.
    refused: tuple[str, ...] = ()
    #: What still works, and the release that ends it.
    deprecated: tuple[str, ...] = ()


def judge_info(info: PluginInfo, distribution: str, deprecations: Deprecations) -> Verdict:
    """A plugin's PLUGIN: its version of the contract and its fields."""
    findings = _Findings(deprecations)
    findings.add_version(
        "PluginInfo", "the plugin contract", info.api_version, OLDEST_CONTRACT_VERSION, CONTRACT_VERSION, distribution
    )
    findings.add_fields(info)
    return findings.verdict()


def judge_hooks(hooks: Iterable[str], deprecations: Deprecations) -> Verdict:
    """The hooks that a plugin implements."""
    findings = _Findings(deprecations)
    for hook in hooks:
        findings.add("hook", hook)
    return findings.verdict()


def judge_spec(spec: Spec, distribution: str, deprecations: Deprecations) -> Verdict:
    """An offer: its version of the family's contract, its fields, the features that it declares."""
    findings = _Findings(deprecations)
    findings.add_version(
        spec.kind, spec.kind, spec.api_version, spec.oldest_api_version, spec.current_api_version, distribution
    )
    findings.add_fields(spec)
    findings.add_fields(spec.requires)
    for feature in sorted(spec.features):
        findings.add("feature", f"{spec.kind}: {feature}")
    return findings.verdict()


def unknown_features(of: type[Spec], features: Iterable[str]) -> Iterator[str]:
    """A clause for each feature that a kind's contract in this core does not know."""
    known = of.known_features
    for feature in sorted(set(features) - set(known)):
        yield (
            f"'{feature}', which {of.kind} do not have in this core{near_miss(feature, known)} "
            f"(known: {', '.join(sorted(known)) or 'none'})"
        )


class _Findings:
    def __init__(self, deprecations: Deprecations) -> None:
        self._deprecations = deprecations
        self._refused: list[str] = []
        self._deprecated: list[str] = []

    def verdict(self) -> Verdict:
        return Verdict(refused=tuple(self._refused), deprecated=tuple(self._deprecated))

    def add(self, subject: Subject, name: str) -> None:
        """A thing that is used."""
        entry = self._deprecations.find(subject, name)
        if entry is not None:
            self._file(entry, f"uses {entry}, which {self._deprecations.fate(entry)}")

    def add_fields(self, value: Any) -> None:
        """The fields of a dataclass that were given: those that differ from their defaults."""
        for field in fields(value):
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            if getattr(value, field.name) == default:
                continue
            for owner in type(value).__mro__:
                self.add("field", f"{owner.__name__}.{field.name}")

    def add_version(self, key: str, what: str, version: int, oldest: int, current: int, distribution: str) -> None:
        """The version of a contract; ``key`` is its name in the list of deprecations."""
        if version == current:
            return
        spoken = str(current) if oldest == current else f"{oldest} to {current}"
        written = f"was written for version {version} of {what}"
        if version > current:
            self._refused.append(f"{written}, this core speaks {spoken}; upgrade hookline-core")
            return
        entry = self._deprecations.find("contract", f"{key} {version}")
        advice = f"; upgrade {distribution}" + (f" (its authors: {entry.instead})" if entry is not None else "")
        if version < oldest:
            self._refused.append(f"{written}, this core speaks {spoken}{advice}")
        elif entry is None:
            self._deprecated.append(f"{written}, the newest is {current}{advice}")
        elif self._deprecations.is_removed(entry):
            self._refused.append(
                f"{written}, which hookline-core {entry.removed} has ended (this is {self._deprecations.version})"
                f"{advice}"
            )
        else:
            self._deprecated.append(f"{written}, which hookline-core {entry.removed} will refuse{advice}")

    def _file(self, entry: Deprecation, sentence: str) -> None:
        (self._refused if self._deprecations.is_removed(entry) else self._deprecated).append(sentence)
