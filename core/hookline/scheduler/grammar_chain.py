"""BackendChain: the loaded grammar backends, best first; a grammar goes to the first that enforces it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarEnv, UnsupportedGrammarError

if TYPE_CHECKING:
    from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend
    from hookline.plugins.plan import ChosenSpec, PluginPlan
    from hookline.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendLink:
    """One backend: what it compiles, and how to make it. ``make`` may take seconds and may fail."""

    name: str
    kinds: frozenset[str]
    make: Callable[[], GrammarBackend]
    #: Kinds for which it is asked before those that stand before it.
    first_for: frozenset[str] = frozenset()


class BackendChain:
    """Not for several threads before ``prepare`` has returned."""

    def __init__(self, links: Sequence[BackendLink]) -> None:
        self._links = tuple(links)
        self._made: dict[str, GrammarBackend] = {}
        self._failed: dict[str, str] = {}

    @property
    def kinds(self) -> frozenset[str]:
        """What at least one backend compiles."""
        return frozenset[str]().union(*(link.kinds for link in self._links))

    def check_kind(self, kind: str) -> None:
        """``RequestError`` for a kind that no backend compiles."""
        if kind not in self.kinds:
            offered = "; ".join(f"'{link.name}' has {', '.join(sorted(link.kinds)) or 'none'}" for link in self._links)
            raise RequestError(
                f"no grammar backend of this engine supports {kind} ({offered}); name one that does in "
                "grammar.grammar_backend",
                param=kind,
            )

    def prepare(self) -> None:
        """Make all backends. One that fails is left out; ``RequestError`` of status 500 if none is left."""
        for link in self._links:
            if link.name in self._made or link.name in self._failed:
                continue
            try:
                self._made[link.name] = link.make()
            except Exception as error:
                log.exception("the grammar backend '%s' cannot be made", link.name)
                self._failed[link.name] = str(error)
        if not self._made:
            reasons = "; ".join(self._failed.values())
            raise RequestError(
                f"constrained output does not work here: {reasons}", code="internal_error", status_code=500
            )

    def compile(self, kind: str, source: str) -> tuple[str, CompiledGrammar]:
        """The name of the backend that enforces the grammar, and the grammar. Raises ``RequestError``."""
        self.check_kind(kind)
        refusals: list[UnsupportedGrammarError] = []
        for link in sorted(self._links, key=lambda link: kind not in link.first_for):
            if kind not in link.kinds or link.name not in self._made:
                continue
            try:
                return link.name, self._made[link.name].compile(kind, source)
            except UnsupportedGrammarError as error:
                refusals.append(error)
        if not refusals:
            reasons = "; ".join(reason for name, reason in self._failed.items() if kind in self._kinds_of(name))
            raise RequestError(f"{kind} does not work here: {reasons}", code="internal_error", status_code=500)
        if len(refusals) == 1:
            raise refusals[0]
        message = "; and ".join(str(error) for error in refusals)
        raise UnsupportedGrammarError(message, param=refusals[0].param, code=refusals[0].code)

    def unpack(self, name: str, kind: str, source: str, packed: bytes) -> CompiledGrammar:
        """What the backend ``name`` compiled in another process."""
        if name not in self._made:
            raise RequestError(
                f"the grammar backend '{name}' works in one process and not in another: {self._failed.get(name)}",
                code="internal_error",
                status_code=500,
            )
        return self._made[name].unpack(kind, source, packed)

    def _kinds_of(self, name: str) -> frozenset[str]:
        return next(link.kinds for link in self._links if link.name == name)


def backend_links(
    plugins: PluginPlan,
    specs: Sequence[ChosenSpec],
    tokenizer: Callable[[], Tokenizer],
    vocab_size: int,
    end_token_ids: tuple[int, ...],
    *,
    quick_first: bool = False,
) -> list[BackendLink]:
    """The links of the chosen backends. ``PluginError`` if one does not load.

    ``quick_first``: a backend goes before the others for the kinds that it compiles at once.
    """

    def link(spec: ChosenSpec) -> BackendLink:
        target = plugins.load(spec)

        def make() -> GrammarBackend:
            env = GrammarEnv(
                tokenizer=tokenizer(),
                vocab_size=vocab_size,
                end_token_ids=end_token_ids,
                options=plugins.options_of(spec),
            )
            try:
                backend: GrammarBackend = target(env)
            except Exception as error:
                where = f"the grammar backend '{spec.name}' of {spec.distribution} {spec.version}".rstrip()
                raise RuntimeError(f"{where} cannot be made: {type(error).__name__}: {error}") from error
            return backend

        quick = spec.details.get("quick_kinds", ()) if quick_first else ()
        kinds = frozenset(spec.details.get("kinds", ()))
        return BackendLink(name=spec.name, kinds=kinds, make=make, first_for=frozenset(quick))

    return [link(spec) for spec in specs]
