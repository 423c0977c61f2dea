"""CheckedNetwork: connections to addresses that were checked, and to no others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

from hookline.errors import RequestError
from hookline_media.addresses import is_public


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name itself, refuses it if any of its addresses is not public, and connects to one of those that it
    has looked at: a name that changes its addresses in between leads nowhere else."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception | None = None
        for address in await self._addresses(host, port):
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        assert failure is not None, "a name has at least one address"
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise RequestError("media come over TCP alone", code="media_not_allowed")

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            raise RequestError(f"its host '{host:.80}' is not known: {exc}", code="media_unreachable") from exc
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private and not all(map(is_public, addresses)):
            # The address itself would tell of the network behind the server.
            raise RequestError(
                f"its host '{host:.80}' has an address that is not public (allow_private_media_hosts)",
                code="media_not_allowed",
            )
        return addresses
