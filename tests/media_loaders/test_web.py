"""Web addresses: what is followed, what is refused, and that only checked addresses are connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import pytest

from hookline.config.schema import MultimodalConfig
from hookline.errors import ConfigError, RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoaderEnv
from hookline_media.http import HttpLoader
from hookline_media.network import CheckedNetwork
from hookline_media.options import MediaOptions

LIMITS = MediaLimits(max_bytes=1000, timeout=5, max_redirects=2)


class Site:
    """A server that answers each path with what the test has put there."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.hangs = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen.append(head.decode())
        path = head.split()[1].decode()
        if path == "/hangs":
            self.hangs.set()
            await reader.read()
        else:
            writer.write(self.answers[path])
        writer.close()

    def put(self, path: str, body: bytes = b"picture", *, status: int = 200, **headers: str) -> str:
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        if "content_length" not in headers and status == 200:
            fields += f"content-length: {len(body)}\r\n"
        self.answers[path] = f"HTTP/1.1 {status} X\r\n{fields}connection: close\r\n\r\n".encode() + body
        return self.url(path)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


async def _fetch(ref: str, limits: MediaLimits = LIMITS, **config: Any) -> bytes:
    section = MultimodalConfig(**{"allow_private_media_hosts": True, **config})
    loader = HttpLoader(MediaLoaderEnv(config=section, options=MediaOptions()))
    try:
        return await loader.fetch(ref, limits)
    finally:
        await loader.close()


async def test_a_picture(site: Site) -> None:
    url = site.put("/a.png?x=1&y=%20")
    assert await _fetch(url) == b"picture"
    (request,) = site.seen
    assert f"host: 127.0.0.1:{site.port}" in request.lower()
    assert "user-agent: hookline" in request.lower()


async def test_redirects_are_followed_so_far(site: Site) -> None:
    site.put("/c")
    site.put("/b", status=307, location="/c")
    first = site.put("/a", status=302, location=site.url("/b"))
    assert await _fetch(first) == b"picture"
    site.put("/0", status=301, location="/a")
    with pytest.raises(RequestError, match="more than 2 times"):
        await _fetch(site.url("/0"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"status": 404}, "status 404"),
        ({"status": 500}, "status 500"),
        ({"status": 302}, "redirects to nowhere"),
        ({"status": 302, "location": "file:///etc/passwd"}, "redirects to 'file:'"),
        ({"status": 302, "location": "http://user:pw@x/"}, "no password"),
        ({"content_type": "text/html; charset=utf-8"}, "answers with text/html, which is no picture"),
        ({"body": bytes(1001)}, "more than the 1000 bytes"),
        ({"body": bytes(1001), "transfer": "x", "content_length": "1001"}, "more than the 1000 bytes"),
    ],
)
async def test_bad_answers(site: Site, answer: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        await _fetch(site.put("/x", **answer))


async def test_a_body_that_never_ends_is_cut_off(site: Site) -> None:
    site.answers["/x"] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + bytes(5000)
    with pytest.raises(RequestError, match="more than the 1000 bytes"):
        await _fetch(site.url("/x"))


async def test_a_redirect_to_html(site: Site) -> None:
    site.put("/page", b"<html>", content_type="text/html")
    with pytest.raises(RequestError, match="answers with text/html"):
        await _fetch(site.put("/x", status=302, location="/page"))


async def test_a_host_that_hangs(site: Site) -> None:
    with pytest.raises(RequestError, match=r"within 0\.2 s \(media_timeout\)"):
        await _fetch(site.url("/hangs"), MediaLimits(max_bytes=9, timeout=0.2, max_redirects=0))
    assert site.hangs.is_set()


async def test_many_slow_hosts_hold_nobody_back(site: Site) -> None:
    loader = HttpLoader(MediaLoaderEnv(config=MultimodalConfig(allow_private_media_hosts=True), options=MediaOptions()))
    slow = [asyncio.create_task(loader.fetch(site.url("/hangs"), LIMITS)) for _ in range(40)]
    while len(site.seen) < 40:
        await asyncio.sleep(0.01)
    assert await loader.fetch(site.put("/quick"), LIMITS) == b"picture"
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    await loader.close()


async def test_a_host_that_does_not_listen() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RequestError, match="could not be fetched: ConnectError"):
        await _fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "169.254.169.254", "0"])
async def test_private_addresses_are_refused(site: Site, host: str) -> None:
    with pytest.raises(RequestError, match=r"not public|not known") as caught:
        await _fetch(site.url("/x", host), allow_private_media_hosts=False)
    assert caught.value.code in ("media_not_allowed", "media_unreachable")
    assert site.seen == []


async def test_a_redirect_to_a_private_address_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the first host counts as public.
    monkeypatch.setattr("hookline_media.network.is_public", lambda address: address == "127.0.0.1")
    url = site.put("/x", status=302, location="http://127.0.0.2/secret")
    with pytest.raises(RequestError, match=r"'127\.0\.0\.2' has an address that is not public"):
        await _fetch(url, allow_private_media_hosts=False)


async def test_one_private_address_among_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    network = CheckedNetwork(allow_private=False)
    _resolve(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(RequestError, match="not public"):
        await network.connect_tcp("mixed.example", 80)


async def test_a_name_that_changes_its_address_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one that is connected to; the name is not looked up again."""
    network = CheckedNetwork(allow_private=False)
    lookups = _resolve(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    connected: list[str] = []

    async def connect(host: str, port: int, *rest: Any) -> Any:
        connected.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr(network._backend, "connect_tcp", connect)
    with pytest.raises(httpcore.ConnectError):
        await network.connect_tcp("rebind.example", 80)
    assert connected == ["8.8.8.8"]
    assert lookups == ["rebind.example"]


def _resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """The next look-ups give these; returns the names that were looked up."""
    waiting = list(answers)
    names: list[str] = []

    async def getaddrinfo(self: Any, host: str, port: int, **rest: Any) -> list[Any]:
        names.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in waiting.pop(0)]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return names


async def test_allowed_hosts(site: Site) -> None:
    url = site.put("/a")
    assert await _fetch(url, allowed_media_hosts=["127.0.0.1"]) == b"picture"
    with pytest.raises(RequestError, match=r"media from '127\.0\.0\.1' are not allowed here"):
        await _fetch(url, allowed_media_hosts=["example.org"])
    # Every redirect is looked at too.
    away = site.put("/b", status=302, location=site.url("/a", "localhost"))
    with pytest.raises(RequestError, match="media from 'localhost' are not allowed"):
        await _fetch(away, allowed_media_hosts=["127.0.0.1"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "must name a host"),
        ("http://a b/", "no spaces"),
        ("http://x/\u00e9", "percent-encoded"),
        ("http://[::1", "malformed"),
        ("http://x:99999/", "malformed"),
        ("http://user:pw@127.0.0.1/", "no password"),
        ("http://no-such-host.invalid/", "is not known"),
    ],
)
async def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        await _fetch(url)


async def test_certificates_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match=r"plugins\.media\.ca_file '/no/such'"):
        HttpLoader(MediaLoaderEnv(config=MultimodalConfig(), options=MediaOptions(ca_file="/no/such")))
