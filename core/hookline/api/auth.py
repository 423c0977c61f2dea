"""Keys: who may call which route."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hookline.api.errors import ErrorAnswer
from hookline.api.paths import PathSet
from hookline.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """The keys of a server, and the routes that need more or less than the ordinary one.

    Every route needs the API key, if there is one, but for the open ones. Control routes need the admin key.
    A server without an admin key takes them on loopback alone, with the API key if there is one, and not from
    web pages of other origins, which a browser would send there unasked. The admin key opens every route.
    """

    api_key: str | None = None
    admin_key: str | None = None
    #: The address that the server listens on.
    host: str = "127.0.0.1"
    #: Paths as in routes, parameters in braces.
    open_paths: Collection[str] = ()
    admin_paths: Collection[str] = ()
    #: Origins whose web pages may call control routes too.
    allowed_origins: Sequence[str] = ()


class AuthMiddleware:
    """Applies ``AccessRules`` before anything of a request is read.

    ``request.state.control_refusal`` says why the caller may not use control routes; see ``require_admin``.
    """

    def __init__(self, app: ASGIApp, *, rules: AccessRules) -> None:
        self.app = app
        self._rules = rules
        self._open_paths = PathSet(rules.open_paths)
        self._admin_paths = PathSet(rules.admin_paths)
        self._keys = [key.encode() for key in (rules.api_key, rules.admin_key) if key is not None]
        self._is_loopback = is_loopback(rules.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refuse_caller(headers)
        if refusal is None:
            control_refusal = self._refuse_control(headers)
            if scope["path"] in self._admin_paths:
                refusal = control_refusal
            scope.setdefault("state", {})["control_refusal"] = control_refusal
        if refusal is not None:
            await refusal.response(scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refuse_caller(self, headers: Headers) -> ErrorAnswer | None:
        """Why the caller may use no route at all."""
        if self._rules.api_key is None:
            return None
        key = _key_of(headers)
        if key is None:
            return _unauthorized("this server needs a key: send the header 'Authorization: Bearer <key>'")
        if not any(hmac.compare_digest(key, known) for known in self._keys):
            return _unauthorized("the key is not valid")
        return None

    def _refuse_control(self, headers: Headers) -> ErrorAnswer | None:
        """Why the caller may not use control routes."""
        if self._rules.admin_key is not None:
            key = _key_of(headers)
            if key is None:
                return _unauthorized("control routes need the admin key: send 'Authorization: Bearer <admin key>'")
            if not hmac.compare_digest(key, self._rules.admin_key.encode()):
                return _forbidden("this key does not open control routes; use the admin key")
            return None
        if not self._is_loopback:
            return _forbidden(
                f"control routes are off: the server listens on {self._rules.host} and has no admin key; "
                "set server.admin_key"
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin):
            return _forbidden(f"web pages of {origin:.200} may not call control routes (cors_allow_origins)")
        return None

    def _is_own(self, origin: str) -> bool:
        # "*" lets any page talk to the model, which does not mean that it may control the server.
        return origin in self._rules.allowed_origins or is_loopback(urlsplit(origin).hostname or "")


def require_admin(request: Request) -> None:
    """Raises ``RequestError`` unless the caller may use control routes: for routes with a part that only
    some may use."""
    refusal: ErrorAnswer | None = request.state.control_refusal
    if refusal is not None:
        raise RequestError(refusal.message, status_code=refusal.status_code, code=refusal.code)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key_of(headers: Headers) -> bytes | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip().encode("latin-1")
    other = headers.get("x-api-key")
    return other.encode("latin-1") if other else None


def _unauthorized(message: str) -> ErrorAnswer:
    return ErrorAnswer(status_code=401, message=message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def _forbidden(message: str) -> ErrorAnswer:
    return ErrorAnswer(status_code=403, message=message, code="admin_required")
