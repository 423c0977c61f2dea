"""Resolution: which offers an engine uses, and why every other candidate was refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hookline.errors import PluginError, ResolutionError
from hookline.interfaces.spec import Spec
from hookline.plugins.context import AUTO, Context, find_unmet, unmet
from hookline.plugins.plan import ChosenSpec
from hookline.plugins.registry import Offer, Registry

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of one kind."""

    kind: str
    #: "auto", or the names that were chosen, best first; empty: none.
    names: tuple[str, ...] = (AUTO,)
    #: Where the names come from, for messages: "attention.attention_backend".
    setting: str = ""
    #: Whether "auto" takes every candidate that fits, rather than the best.
    many: bool = False
    #: Whether it is an error when "auto" finds none.
    required: bool = True
    #: Feature -> who needs it. A candidate that does not declare one is refused.
    features: Mapping[str, str] = field(default_factory=dict)
    #: Candidates that may not be taken -> why.
    excluded: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_auto(self) -> bool:
        return AUTO in self.names


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A candidate that cannot be used, with every reason."""

    offer: Offer[Spec]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The answer to a wish. Error messages, `plugins why`, /server_info and logs are made from it."""

    wish: Wish
    #: Best first; one unless the wish was for many.
    chosen: tuple[Offer[Spec], ...]
    #: Candidates that fit too, and were not needed.
    spare: tuple[Offer[Spec], ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the chosen offers."""
        return tuple(offer.spec.name for offer in self.chosen)

    @property
    def reason(self) -> str:
        """Why these were chosen, in a few words."""
        if not self.wish.names:
            return f"none is wanted, by {self.wish.setting}" if self.wish.setting else "none is wanted"
        if not self.wish.is_auto:
            return f"named by {self.wish.setting or 'the caller'}"
        if not self.chosen:
            return "none fits" if self.refusals else "none is offered"
        if self.wish.many:
            return "all that fit, by priority"
        return "the only one that fits" if not self.spare else "the best that fits, by priority"


def resolve(registry: Registry, kind: str, name: str, context: Context) -> Resolution:
    """Choose one offer of a kind, by name or "auto".

    Raises ``ResolutionError`` with every reason when the named one cannot be used, or when none fits, and
    ``PluginError`` for a name that nobody offers.
    """
    return resolve_wish(registry, Wish(kind=kind, names=(name,), setting=kind), context)


def resolve_wish(registry: Registry, wish: Wish, context: Context) -> Resolution:
    """Choose for one wish. Raises as ``resolve`` does."""
    refusals: list[Refusal] = []
    fits: list[Offer[Spec]] = []
    for offer in registry.of_kind(wish.kind):
        reasons = refuse(offer, wish, context)
        if reasons:
            refusals.append(Refusal(offer=offer, reasons=tuple(reasons)))
        else:
            fits.append(offer)
    if not wish.names and wish.features:
        needs = "; ".join(f"{source} needs '{feature}'" for feature, source in wish.features.items())
        raise ResolutionError(f"{wish.setting or wish.kind} says that none is wanted, but {needs}", _as_plain(refusals))
    if wish.is_auto:
        chosen = fits if wish.many else fits[:1]
        if wish.required and not chosen:
            raise ResolutionError(_none_fits(registry, wish, refusals), _as_plain(refusals))
    else:
        known = {offer.spec.name for offer in registry.of_kind(wish.kind)}
        for name in wish.names:
            if name not in known:
                where = f"{wish.setting}: " if wish.setting else ""
                raise PluginError(where + registry.unknown(wish.kind, name))
        chosen = [_named(wish, name, fits, refusals, context) for name in dict.fromkeys(wish.names)]
    spare = tuple(offer for offer in fits if offer not in chosen)
    return Resolution(wish=wish, chosen=tuple(chosen), spare=spare, refusals=tuple(refusals))


def resolve_together(registry: Registry, wishes: Sequence[Wish], context: Context) -> dict[str, Resolution]:
    """Choose for all wishes, again and again until what the chosen ones impose on each other is met.

    An "auto" choice whose demand nobody can meet is given up for the next best, and its refusal says so; for
    a named one that is a ``ResolutionError``.
    """
    excluded: dict[str, dict[str, str]] = {wish.kind: {} for wish in wishes}
    while True:
        outcome = _settle(registry, wishes, context, excluded)
        if not isinstance(outcome, _GivenUp):
            return outcome
        excluded[outcome.kind][outcome.name] = outcome.reason


def refuse(offer: Offer[Spec], wish: Wish, context: Context) -> list[str]:
    """Every reason why an offer cannot answer a wish; empty if it can."""
    spec = offer.spec
    reasons = list(offer.refused)
    if spec.name in wish.excluded:
        reasons.append(wish.excluded[spec.name])
    reasons.extend(unmet(spec.requires, context))
    reasons.extend(
        f"does not support '{feature}', which {source} needs"
        for feature, source in wish.features.items()
        if feature not in spec.features
    )
    return reasons


def choose(offer: Offer[Spec]) -> ChosenSpec:
    """An offer as the plan for child processes carries it."""
    spec = offer.spec
    return ChosenSpec(
        kind=spec.kind,
        name=spec.name,
        target=spec.target,
        distribution=offer.distribution,
        version=offer.version,
        api_version=spec.api_version,
        plugin=offer.plugin,
        features=sorted(spec.features),
        head_dims=sorted(spec.requires.head_dims),
        prebuild=spec.prebuild,
        details=details_of(spec),
    )


def details_of(spec: Spec) -> dict[str, Any]:
    """The fields of a spec that its kind adds, as plain values that a message can carry."""
    common = set(Spec.__dataclass_fields__)
    return {name: _plain(getattr(spec, name)) for name in spec.__dataclass_fields__ if name not in common}


#: kind -> feature -> the chosen offer that imposes it.
_Demands = dict[str, dict[str, Offer[Spec]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _GivenUp:
    """A candidate that must not be chosen, because nobody meets what it imposes."""

    kind: str
    name: str
    reason: str


def _settle(
    registry: Registry, wishes: Sequence[Wish], context: Context, excluded: Mapping[str, Mapping[str, str]]
) -> dict[str, Resolution] | _GivenUp:
    demands: _Demands = {}
    seen: list[_Demands] = []
    while True:
        answers: dict[str, Resolution] = {}
        for wish in wishes:
            try:
                demanding = _with_demands(wish, demands.get(wish.kind, {}))
                demanding = replace(demanding, excluded={**excluded[wish.kind], **wish.excluded})
                answers[wish.kind] = resolve_wish(registry, demanding, context)
            except ResolutionError as exc:
                given_up = _blame(demands.get(wish.kind, {}), wish.kind, wishes)
                if given_up is None:
                    raise
                _log.debug("giving up %s '%s': %s", given_up.kind, given_up.name, exc)
                return given_up
        found = _demands_of(answers)
        if found == demands:
            return answers
        if found in seen:
            raise ResolutionError(_unsettled(found))
        seen.append(found)
        demands = found


def _demands_of(answers: Mapping[str, Resolution]) -> _Demands:
    demands: _Demands = {}
    for answer in answers.values():
        for offer in answer.chosen:
            for kind, features in offer.spec.imposes.items():
                if kind in answers:
                    demands.setdefault(kind, {}).update(dict.fromkeys(sorted(features), offer))
    return demands


def _with_demands(wish: Wish, demands: Mapping[str, Offer[Spec]]) -> Wish:
    if not demands:
        return wish
    more = {feature: f"{offer.spec.kind} '{offer.spec.name}' of {offer.source}" for feature, offer in demands.items()}
    return replace(wish, required=True, features={**more, **wish.features})


def _blame(demands: Mapping[str, Offer[Spec]], kind: str, wishes: Sequence[Wish]) -> _GivenUp | None:
    """Of those that impose on ``kind``, the first that the user did not name."""
    auto = {wish.kind for wish in wishes if wish.is_auto}
    for feature, offer in demands.items():
        if offer.spec.kind in auto:
            reason = f"imposes '{feature}' on {kind}, and no candidate there supports it"
            return _GivenUp(kind=offer.spec.kind, name=offer.spec.name, reason=reason)
    return None


def _unsettled(demands: _Demands) -> str:
    lines = [
        f"{offer.spec.kind} '{offer.spec.name}' of {offer.source} imposes '{feature}' on {kind}"
        for kind, features in demands.items()
        for feature, offer in features.items()
    ]
    return f"the choice of plugins does not settle ({'; '.join(lines)}); name one of them in the configuration"


def _named(
    wish: Wish, name: str, fits: Sequence[Offer[Spec]], refusals: Sequence[Refusal], context: Context
) -> Offer[Spec]:
    for offer in fits:
        if offer.spec.name == name:
            return offer
    by = f", named by {wish.setting}," if wish.setting else ""
    refusal = next(refusal for refusal in refusals if refusal.offer.spec.name == name)
    fitting = ", ".join(offer.spec.name for offer in fits)
    others = f"; what fits: {fitting}" if fitting else "; nothing else fits either"
    remedies = ", and ".join(item.remedy for item in find_unmet(refusal.offer.spec.requires, context))
    if remedies:
        others += f"; '{name}' takes {remedies}"
    raise ResolutionError(
        f"{wish.kind} '{name}' of {refusal.offer.source}{by} cannot be used: {'; '.join(refusal.reasons)}{others}",
        _as_plain(refusals),
    )


def _none_fits(registry: Registry, wish: Wish, refusals: Sequence[Refusal]) -> str:
    if refusals:
        reasons = "".join(
            f"\n  {refusal.offer.spec.name} of {refusal.offer.source}: {'; '.join(refusal.reasons)}"
            for refusal in refusals
        )
        return f"no {wish.kind} can be used:{reasons}"
    broken = "".join(f"\n  {plugin}" for plugin in registry.broken)
    return f"no plugin offers {wish.kind}; `hookline plugins list` shows what is installed{broken}"


def _as_plain(refusals: Sequence[Refusal]) -> dict[str, tuple[str, ...]]:
    return {refusal.offer.spec.name: refusal.reasons for refusal in refusals}


def _plain(value: Any) -> Any:
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
