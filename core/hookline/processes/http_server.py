"""The HTTP listener: the port is taken before anything slow starts, and uvicorn runs on the launcher's loop."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hookline.config.schema import ServerConfig
from hookline.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn

_BACKLOG = 2048
#: Seconds that answers in progress get once the listener closes.
_GRACE_SECONDS = 2


def bind_listener(host: str, port: int) -> socket.socket:
    """A listening socket; raises ``ConfigError`` when the address is in use or cannot be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as exc:
        raise ConfigError(f"cannot listen on host '{host}': {exc}; set --host to an address of this machine") from exc
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        # At once, not when uvicorn starts: until then a second server could bind the same port.
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise ConfigError(_bind_problem(host, port, exc)) from exc
    listener.setblocking(False)
    return listener


def base_url(listener: socket.socket, config: ServerConfig) -> str:
    """The URL under which a client on this machine reaches the server."""
    scheme = "https" if config.tls_cert_file else "http"
    host = config.host
    if host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


def make_http_server(app: Any, config: ServerConfig) -> uvicorn.Server:
    """A uvicorn server that leaves signals and logging to the launcher.

    Raises ``ConfigError`` when the certificate or its key cannot be used.
    """
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ssl_certfile=config.tls_cert_file,
        ssl_keyfile=config.tls_key_file,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        server_header=False,
    )
    try:
        settings.load()
    except (ssl.SSLError, OSError) as exc:
        raise ConfigError(
            f"cannot use tls_cert_file '{config.tls_cert_file}' with tls_key_file '{config.tls_key_file}': {exc}"
        ) from exc
    return Server(settings)


def _bind_problem(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there, or choose another with --port (0: any)"
    if exc.errno == errno.EACCES:
        return f"port {port} on {host} needs more rights; choose one from 1024 up with --port"
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; set --host to one that is, or to 0.0.0.0"
    return f"cannot listen on {host}, port {port}: {exc.strerror}"
