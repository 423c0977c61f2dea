"""Conflicts: what two plugins claim both, and what the configuration says of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hookline.config.schema import HooklineConfig
from hookline.errors import PluginError
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.checkpoints import CheckpointSourceSpec
from hookline.interfaces.model import ModelSpec
from hookline.plugins.names import unknown_name
from hookline.plugins.registry import Offer, Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One thing that is claimed twice, or a preference that settles nothing."""

    sentence: str
    #: The plugins that make the claims.
    plugins: frozenset[str]
    #: Whether an engine that needs the thing cannot start.
    is_fault: bool


def find_conflicts(registry: Registry, config: HooklineConfig) -> list[Conflict]:
    """Names, architectures, checkpoints and paths that several offers claim."""
    return [
        *_names(registry),
        *_claims(registry, "models", _architectures(registry)),
        *_claims(registry, "checkpoint_sources", _checkpoints(registry)),
        *_paths(registry, config),
    ]


def _names(registry: Registry) -> Iterator[Conflict]:
    named: dict[tuple[str, str], list[Offer[Any]]] = {}
    for plugin in registry.plugins:
        for offer in plugin.offers:
            named.setdefault((offer.spec.kind, offer.spec.name), []).append(offer)
    for (kind, name), offers in named.items():
        if len(offers) > 1:
            yield _settled(registry, kind, name, offers)


def _claims(registry: Registry, kind: str, claims: Mapping[str, Sequence[Offer[Any]]]) -> Iterator[Conflict]:
    """What the offers of a kind answer for besides their names; ``prefer`` settles these by the same key."""
    for name, offers in claims.items():
        if len(offers) > 1:
            yield _settled(registry, kind, name, offers)
    known = {*claims, *(offer.spec.name for offer in registry.of_kind(kind))}
    for key in registry.prefer:
        if key.partition(".")[0] == kind and key.partition(".")[2] not in known:
            what = unknown_name(f"name or claim of {kind}", key.partition(".")[2], known)
            yield Conflict(sentence=f"prefer: {what}", plugins=frozenset(), is_fault=True)


def _settled(registry: Registry, kind: str, name: str, offers: Sequence[Offer[Any]]) -> Conflict:
    plugins = frozenset(offer.plugin for offer in offers)
    try:
        winner = registry.preferred(kind, name, offers)
    except PluginError as exc:
        return Conflict(sentence=str(exc), plugins=plugins, is_fault=True)
    others = " and ".join(offer.source for offer in offers if offer is not winner)
    sentence = f"{kind} '{name}' of {winner.source} wins over that of {others}, by prefer.\"{kind}.{name}\""
    return Conflict(sentence=sentence, plugins=plugins, is_fault=False)


def _architectures(registry: Registry) -> dict[str, list[Offer[Any]]]:
    return _by_claim((name, offer) for offer in registry.offers(ModelSpec) for name in offer.spec.architectures)


def _checkpoints(registry: Registry) -> dict[str, list[Offer[Any]]]:
    sources = registry.offers(CheckpointSourceSpec)
    claims = _by_claim((name, offer) for offer in sources for name, _ in offer.spec.checkpoints)
    # What serves when no model is named goes by the word "default".
    return {**claims, "default": [offer for offer in sources if offer.spec.default is not None]}


def _by_claim(claims: Iterable[tuple[str, Offer[Any]]]) -> dict[str, list[Offer[Any]]]:
    claimed: dict[str, list[Offer[Any]]] = {}
    for name, offer in claims:
        claimed.setdefault(name, []).append(offer)
    return claimed


def _paths(registry: Registry, config: HooklineConfig) -> Iterator[Conflict]:
    for one, two in combinations(registry.offers(ApiFamilySpec), 2):
        shared = sorted(_shapes(one.spec.paths) & _shapes(two.spec.paths))
        if not shared:
            continue
        are_served = {one.spec.name, two.spec.name} <= set(config.server.api_families)
        advice = "list only one of them in server.api_families" if are_served else "no server can have both"
        sentence = (
            f"api_families '{one.spec.name}' of {one.source} and '{two.spec.name}' of {two.source} both serve "
            f"{', '.join(shared)}; {advice}"
        )
        yield Conflict(sentence=sentence, plugins=frozenset({one.plugin, two.plugin}), is_fault=are_served)


def _shapes(paths: Iterable[str]) -> set[str]:
    """Paths without the names of their parameters."""
    return {re.sub(r"\{[^}]*\}", "{}", path) for path in paths}
