"""The API families of a server: loaded from the plan, and their routes checked against each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
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

    def router(self, serving: Serving) -> APIRouter:
        """Make the family. Raises ``PluginError`` if it serves other routes than it declares."""
        router = self.target(ApiContext(serving=serving, options=self.options)).router()
        for route in router.routes:
            if not isinstance(route, APIRoute):
                raise PluginError(f"the API family {self} has a {type(route).__name__}; only HTTP routes are possible")
        served = frozenset(route.path for route in _routes(router))
        for kind, stray in (
            ("serves paths that it does not declare", served - self.paths),
            ("declares paths that it does not serve", self.paths - served),
            ("sets the access of paths that it does not declare", (self.admin_paths | self.open_paths) - self.paths),
        ):
            if stray:
                raise PluginError(f"the API family {self} {kind}: {', '.join(sorted(stray))}")
        return router


def load_families(plan: PluginPlan) -> list[LoadedFamily]:
    """The chosen families. Raises ``PluginError`` if one does not load or is none."""
    families = []
    for spec in plan.of_kind(ApiFamilySpec.kind):
        target = plan.load(spec)
        if not (isinstance(target, type) and issubclass(target, ApiFamily)):
            raise PluginError(
                f"the API family '{spec.name}' of {spec.distribution} must be a subclass of ApiFamily, "
                f"but '{spec.target}' is {target!r:.80}"
            )
        families.append(
            LoadedFamily(
                name=spec.name,
                distribution=f"{spec.distribution} {spec.version}",
                target=target,
                options=plan.options_of(spec),
                paths=frozenset(spec.details.get("paths", ())),
                admin_paths=frozenset(spec.details.get("admin_paths", ())),
                open_paths=frozenset(spec.details.get("open_paths", ())),
            )
        )
    return families


def check_conflicts(routers: Sequence[tuple[LoadedFamily, APIRouter]]) -> None:
    """Raises ``PluginError`` naming both families if two claim one path.

    A route that another family's pattern would catch first counts: who answers would depend on the order of
    loading.
    """
    for index, (one, first_router) in enumerate(routers):
        for two, second_router in routers[index + 1 :]:
            for first in _routes(first_router):
                for second in _routes(second_router):
                    if _conflict(first, second):
                        raise PluginError(
                            f"the API families {one} and {two} claim the same path: {first.path} and {second.path}; "
                            "leave one of them out of server.api_families"
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
