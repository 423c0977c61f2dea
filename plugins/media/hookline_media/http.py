"""HttpLoader: media from web addresses."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore

from hookline.errors import ConfigError, RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoader, MediaLoaderEnv
from hookline_media.network import CheckedNetwork

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
#: Connections that are kept for further media of one host.
_KEEP_ALIVE = 16


class HttpLoader(MediaLoader):
    """GET, redirects followed one by one, every one checked like the first. Knows no proxies, cookies or passwords."""

    def __init__(self, env: MediaLoaderEnv) -> None:
        """Raises ``ConfigError`` when the certificates cannot be read."""
        super().__init__(env)
        self._hosts = frozenset(host.lower() for host in env.config.allowed_media_hosts)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context(env.options.ca_file),
            # How many media are fetched at once is the caller's affair (media_fetches).
            max_connections=None,
            max_keepalive_connections=_KEEP_ALIVE,
            keepalive_expiry=10.0,
            network_backend=CheckedNetwork(allow_private=env.config.allow_private_media_hosts),
        )
        self._headers = [
            ("User-Agent", env.options.user_agent),
            ("Accept", "image/*, video/*, */*;q=0.5"),
            # Compressed answers could grow beyond the limit.
            ("Accept-Encoding", "identity"),
        ]

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        try:
            async with asyncio.timeout(limits.timeout):
                return await self._follow(ref, limits)
        except TimeoutError as exc:
            raise RequestError(
                f"its host did not send it within {limits.timeout:g} s (media_timeout)", code="media_unreachable"
            ) from exc
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError) as exc:
            cause = f"{type(exc).__name__}: {exc!s:.200}"
            raise RequestError(f"it could not be fetched: {cause}", code="media_unreachable") from exc

    async def close(self) -> None:
        await self._pool.aclose()

    async def _follow(self, ref: str, limits: MediaLimits) -> bytes:
        url = ref.strip()
        for _ in range(limits.max_redirects + 1):
            target = self._checked(url)
            async with self._pool.stream("GET", _target(target), headers=[*self._headers, _host(target)]) as response:
                if response.status not in _REDIRECTS:
                    return await _body(response, limits)
                location = _header(response, b"location")
            if not location:
                raise RequestError("its host redirects to nowhere", code="media_unreachable")
            url = urljoin(url, location)
        raise RequestError(
            f"its host redirects more than {limits.max_redirects} times (max_media_redirects)", code="media_unreachable"
        )

    def _checked(self, url: str) -> SplitResult:
        """The URL in parts. Raises ``RequestError`` for one that must not be asked."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
            url.encode("ascii")
        except UnicodeEncodeError as exc:
            raise RequestError("its URL must be percent-encoded: it holds characters beyond ASCII") from exc
        except ValueError as exc:
            raise RequestError(f"its URL is malformed: {exc}") from exc
        if parts.scheme not in _PORTS:
            raise RequestError(
                f"its host redirects to '{parts.scheme:.20}:', which is not followed", code="media_not_allowed"
            )
        if not host or parts.username is not None or any(char.isspace() or ord(char) < 32 for char in url):
            raise RequestError("its URL must name a host, and hold no password and no spaces")
        if self._hosts and host not in self._hosts:
            raise RequestError(
                f"media from '{host:.80}' are not allowed here (allowed_media_hosts)", code="media_not_allowed"
            )
        return parts


async def _body(response: httpcore.Response, limits: MediaLimits) -> bytes:
    if response.status != 200:
        raise RequestError(f"its host answers with status {response.status}", code="media_unreachable")
    kind = _header(response, b"content-type").partition(";")[0].strip().lower()
    if kind.startswith("text/"):
        raise RequestError(f"its host answers with {kind}, which is no picture and no video")
    length = _header(response, b"content-length")
    if length.isdecimal() and int(length) > limits.max_bytes:
        raise _too_large(limits)
    body = bytearray()
    async for piece in response.aiter_stream():
        body += piece
        if len(body) > limits.max_bytes:
            raise _too_large(limits)
    return bytes(body)


def _too_large(limits: MediaLimits) -> RequestError:
    return RequestError(f"it has more than the {limits.max_bytes} bytes that are taken", code="media_too_large")


def _header(response: httpcore.Response, name: bytes) -> str:
    for key, value in response.headers:
        if key.lower() == name:
            return value.decode("latin-1")
    return ""


def _target(parts: SplitResult) -> httpcore.URL:
    path = parts.path or "/"
    return httpcore.URL(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port,
        target=f"{path}?{parts.query}" if parts.query else path,
    )


def _host(parts: SplitResult) -> tuple[str, str]:
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    default = parts.port is None or parts.port == _PORTS[parts.scheme]
    return ("Host", name if default else f"{name}:{parts.port}")


def _ssl_context(ca_file: str | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpcore.default_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"cannot read the certificates of plugins.media.ca_file '{ca_file}': {exc}") from exc
