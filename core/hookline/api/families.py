"""The API families of a server: loaded from the plan, and their routes checked against each other."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from hookline.errors import PluginError
from hookline.interfaces.api import ApiContext, ApiFamily, ApiFamilySpec, Serving
from hookline.plugins.plan import PluginPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFamily:
    """An API family that is ready to be made, and what its spec declares of its routes."""

    name: str
    distribution: str
    target: type[ApiFamily]
    options: Any = None
    paths: frozenset[str] = frozenset()
    admin_paths: frozenset[str] = frozenset()
    open_paths: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"'{self.name}' of {self.distribution}"

    def make(self, serving: Serving) -> MadeFamily:
        """Make the family. Raises ``PluginError`` if it serves other routes than it declares."""
        family = self.target(ApiContext(serving=serving, options=self.options))
        router = family.router()
        for route in router.routes:
            if not isinstance(route, APIRoute):
                raise PluginError(
                    f"the API family {self} has a {type(route).__name__}; add every route to the one router itself "
                    "(router.add_api_route, router.get, router.post), none by mounting or including another"
                )
        served = frozenset(route.path for route in _routes(router))
        for kind, stray in (
            ("serves paths that it does not declare", served - self.paths),
            ("declares paths that it does not serve", self.paths - served),
            ("sets the access of paths that it does not declare", (self.admin_paths | self.open_paths) - self.paths),
        ):
            if stray:
                raise PluginError(f"the API family {self} {kind}: {', '.join(sorted(stray))}")
        return MadeFamily(loaded=self, family=family, router=router)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFamily:
    """A family and its routes."""

    loaded: LoadedFamily
    family: ApiFamily
    router: APIRouter


def load_families(plan: PluginPlan) -> list[LoadedFamily]:
    """The chosen families. Raises ``PluginError`` if one does not load or is none."""
    families = []
    for spec in plan.of_kind(ApiFamilySpec.kind):
        families.append(
            LoadedFamily(
                name=spec.name,
                distribution=f"{spec.distribution} {spec.version}",
                target=plan.load(spec),
                options=plan.options_of(spec),
                paths=frozenset(spec.details.get("paths", ())),
                admin_paths=frozenset(spec.details.get("admin_paths", ())),
                open_paths=frozenset(spec.details.get("open_paths", ())),
            )
        )
    return families


def check_conflicts(families: Sequence[MadeFamily], own_paths: Collection[str]) -> None:
    """Raises ``PluginError`` naming both families if two claim one path, and if one claims a path of
    ``own_paths``, which the application itself serves.

    A route that another family's pattern would catch first counts: who answers would depend on the order of
    loading.
    """
    for index, one in enumerate(families):
        for first in _routes(one.router):
            for path in own_paths:
                if _catches(first, path):
                    raise PluginError(
                        f"the API family {one.loaded} claims {first.path}, but every server answers {path} itself; "
                        "give the family's paths a prefix of its own"
                    )
            for two in families[index + 1 :]:
                for second in _routes(two.router):
                    if _conflict(first, second):
                        raise PluginError(
                            f"the API families {one.loaded} and {two.loaded} claim the same path: {first.path} and "
                            f"{second.path}; leave one of them out of server.api_families"
                        )


def _routes(router: APIRouter) -> list[APIRoute]:
    return [route for route in router.routes if isinstance(route, APIRoute)]


def _conflict(one: APIRoute, two: APIRoute) -> bool:
    return bool((one.methods or set()) & (two.methods or set())) and (
        _catches(one, two.path) or _catches(two, one.path)
    )


def _catches(route: APIRoute, path: str) -> bool:
    """Whether the route's pattern matches an example of the path."""
    return route.path == path or route.path_regex.match(re.sub(r"\{[^}]*\}", "x", path)) is not None
