"""HttpStream: one HTTP exchange, read so cheaply that the reader does not slow down what it measures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from hookline.bench.chunked_body import ChunkedBody
from hookline.errors import HooklineError

_EVENT = b"data: "
_TAIL_BYTES = 4096
#: Scheme of a URL -> its port.
_PORTS = {"http": 80, "https": 443}


class HttpStream(asyncio.Protocol):
    """A connection for one request. ``connect``, then ``post`` or ``get``, then ``wait``.

    The body is kept or, for event streams, counted: ``on_data`` sees every piece, and the end of the body is
    kept. The server closes the connection at the end, so nothing else needs to be parsed. Pieces are as they come
    over the wire: with ``is_chunked`` the lengths of HTTP's chunks lie between the parts of the body.
    """

    def __init__(self, host: str, base_path: str, *, on_data: Callable[[bytes], Any] | None) -> None:
        self._host = host
        self._base_path = base_path
        self._on_data = on_data
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._body = bytearray()
        self._has_head = False
        self._head = bytearray()
        self._status = 0
        #: Whether the body comes in chunks; known from the first piece on.
        self.is_chunked = False
        #: perf_counter of the request, of the first event (or the first part of the body), and of the last data.
        self.started = 0.0
        self.first: float | None = None
        self.last = 0.0

    @classmethod
    async def connect(cls, url: str, *, on_data: Callable[[bytes], Any] | None = None) -> HttpStream:
        """Open a connection to a base URL, which may have a path of its own. Without ``on_data`` the whole body is
        kept.

        Raises ``HooklineError`` when nobody listens there.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or parts.hostname is None:
            raise HooklineError(f"'{url}' is not a base URL; it looks like http://127.0.0.1:8000")
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
        loop = asyncio.get_running_loop()
        try:
            _, stream = await loop.create_connection(
                lambda: cls(parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), on_data=on_data),
                host,
                port,
                ssl=True if parts.scheme == "https" else None,
            )
        except OSError as exc:
            raise HooklineError(f"no server answers at {url}: {exc}; start one with `hookline serve`") from exc
        return stream

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Send a JSON body."""
        data = json.dumps(body).encode()
        self._send("POST", path, {"content-type": "application/json", **(headers or {})}, data)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Ask for a resource."""
        self._send("GET", path, headers or {}, b"")

    def _send(self, method: str, path: str, headers: Mapping[str, str], data: bytes) -> None:
        assert self._transport is not None
        lines = [f"{method} {self._base_path}{path} HTTP/1.1", f"host: {self._host}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, f"content-length: {len(data)}", "", ""])
        self.started = time.perf_counter()
        self._transport.write(head.encode() + data)

    async def wait(self) -> None:
        """Wait for the end of the answer. Raises ``HooklineError`` if it is not a success or the stream ends
        with an error."""
        await self._ended
        if self._status != 200:
            text = self._body[:300].decode(errors="replace")
            raise HooklineError(f"the server answered {self._status or 'nothing'}: {text}")
        if self._on_data is not None and b"[DONE]" not in self._body:
            raise HooklineError(f"a stream was cut off after: {self._body[-300:].decode(errors='replace')}")

    def json(self) -> Any:
        """The body of a whole answer."""
        return json.loads(ChunkedBody().feed(bytes(self._body)) if self.is_chunked else self._body)

    def last_event(self) -> dict[str, Any]:
        """The last event of a stream."""
        events = [line for line in self._body.splitlines() if line.startswith(_EVENT) and b"[DONE]" not in line]
        if not events:
            raise HooklineError("a stream had no event")
        value: dict[str, Any] = json.loads(events[-1].removeprefix(_EVENT))
        if "error" in value:
            raise HooklineError(f"a stream ended with an error: {value['error']}")
        return value

    def close(self) -> None:
        """Drop the connection; the server aborts the request."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        now = self.last = time.perf_counter()
        if not self._has_head:
            self._head += data
            head, end, data = bytes(self._head).partition(b"\r\n\r\n")
            if not end:
                return
            self._has_head = True
            self._status = int(head.split(b" ", 2)[1])
            self.is_chunked = b"transfer-encoding: chunked" in head.lower()
        if not data:
            return
        if self.first is None and (self._on_data is None or _EVENT in data):
            self.first = now
        self._body += data
        if self._on_data is not None:
            self._on_data(data)
            if len(self._body) > 2 * _TAIL_BYTES:
                del self._body[:-_TAIL_BYTES]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
