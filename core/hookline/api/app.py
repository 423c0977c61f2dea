"""create_app: the HTTP application of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from hookline._version import __version__
from hookline.api.auth import AccessRules, AuthMiddleware
from hookline.api.bodies import IGNORED_HEADER
from hookline.api.errors import ErrorMiddleware, Wordings, install_error_handlers
from hookline.api.families import LoadedFamily, MadeFamily, check_conflicts
from hookline.api.limits import LimitsMiddleware
from hookline.api.paths import PathSet
from hookline.api.request_ids import HEADER, RequestIdMiddleware
from hookline.config.schema import HooklineConfig
from hookline.config.secrets import read_secret
from hookline.interfaces.api import Serving

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def create_app(
    serving: Serving, families: Sequence[LoadedFamily], config: HooklineConfig, *, lifespan: Lifespan | None = None
) -> FastAPI:
    """The application that serves ``families`` under the limits, keys and origins of ``config.server``.

    ``families`` come from ``load_families``, ``lifespan`` is the launcher's. Raises ``PluginError`` when
    families claim the same route, one of the application's own, or serve undeclared ones, ``ConfigError`` when
    a key cannot be read.
    """
    made = [family.make(serving) for family in families]
    app = FastAPI(
        title="Hookline",
        version=__version__,
        lifespan=lifespan,
        middleware=_middleware(made, config),
        redirect_slashes=False,
        redoc_url=None,
    )
    # Until here the application has its own routes alone: the description of all others, and its page.
    check_conflicts(made, [route.path for route in app.routes if isinstance(route, Route)])
    install_error_handlers(app)
    for item in made:
        app.include_router(item.router, tags=[item.loaded.name])
    return app


def _middleware(made: Sequence[MadeFamily], config: HooklineConfig) -> list[Middleware]:
    """Outermost first: every answer has an id and may be read by allowed pages, whatever went wrong; keys
    are checked before anything of the body is read."""
    server = config.server
    families = [item.loaded for item in made]
    open_paths = frozenset().union(*(family.open_paths for family in families))
    rules = AccessRules(
        api_key=read_secret(server.api_key, "server.api_key"),
        admin_key=read_secret(server.admin_key, "server.admin_key"),
        host=server.host,
        open_paths=open_paths,
        admin_paths=frozenset().union(*(family.admin_paths for family in families)),
        allowed_origins=tuple(server.cors_allow_origins),
    )
    wordings = Wordings([(PathSet(item.loaded.paths), item.family.error_body) for item in made])
    stack = [Middleware(RequestIdMiddleware)]
    if server.cors_allow_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=server.cors_allow_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=[HEADER, IGNORED_HEADER],
            )
        )
    stack += [
        Middleware(ErrorMiddleware, wordings=wordings),
        Middleware(AuthMiddleware, rules=rules),
        Middleware(
            LimitsMiddleware,
            max_bytes=server.max_request_bytes,
            max_concurrent=server.max_concurrent_requests,
            uncounted=open_paths,
        ),
    ]
    return stack
