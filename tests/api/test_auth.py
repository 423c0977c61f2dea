from __future__ import annotations

from typing import Any

import pytest

from hookline.api.auth import is_loopback
from hookline.testkit.fake_serving import FakeServing
from hookline.testkit.in_process import http
from tests.factories.fake_serving import make_app

_OPEN, _NORMAL, _CONTROL = "/health", "/v1/models", "/flush_cache"
_LOCAL: dict[str, Any] = {"host": "127.0.0.1"}
_PUBLIC: dict[str, Any] = {"host": "0.0.0.0"}
_API = {"api_key": "user-key"}
_ADMIN = {"admin_key": "admin-key"}


@pytest.mark.parametrize(
    ("server", "key", "statuses"),
    [
        # (open, normal, control) for a server, and the key that the caller sends.
        (_LOCAL, None, (200, 200, 200)),
        (_LOCAL, "anything", (200, 200, 200)),
        (_PUBLIC, None, (200, 200, 403)),
        (_LOCAL | _API, None, (200, 401, 401)),
        (_LOCAL | _API, "wrong", (200, 401, 401)),
        (_LOCAL | _API, "user-key", (200, 200, 200)),
        (_PUBLIC | _API, "user-key", (200, 200, 403)),
        (_LOCAL | _ADMIN, None, (200, 200, 401)),
        (_LOCAL | _ADMIN, "user-key", (200, 200, 403)),
        (_PUBLIC | _ADMIN, "admin-key", (200, 200, 200)),
        (_PUBLIC | _API | _ADMIN, None, (200, 401, 401)),
        (_PUBLIC | _API | _ADMIN, "wrong", (200, 401, 401)),
        (_PUBLIC | _API | _ADMIN, "user-key", (200, 200, 403)),
        (_PUBLIC | _API | _ADMIN, "admin-key", (200, 200, 200)),
        (_PUBLIC | {"api_key": "schlüssel"}, "schlüssel", (200, 200, 403)),
    ],
)
async def test_who_may_call_what(server: dict[str, Any], key: str | None, statuses: tuple[int, int, int]) -> None:
    headers = {} if key is None else {b"authorization": f"Bearer {key}".encode()}
    async with http(make_app(**server)) as client:
        answers = [
            await client.get(_OPEN, headers=headers),
            await client.get(_NORMAL, headers=headers),
            await client.post(_CONTROL, headers=headers),
        ]
    assert tuple(answer.status_code for answer in answers) == statuses
    for answer in answers:
        if answer.status_code == 401:
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        if answer.status_code == 403:
            assert answer.json()["error"]["code"] == "admin_required"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "bearer user-key"},
        {"authorization": "Bearer  user-key "},
        {"x-api-key": "user-key"},
    ],
)
async def test_other_ways_to_send_the_key(headers: dict[str, str]) -> None:
    async with http(make_app(api_key="user-key"), headers=headers) as client:
        assert (await client.get(_NORMAL)).status_code == 200


@pytest.mark.parametrize(
    "header", ["user-key", "Basic user-key", "Bearer", "Bearer ", "Bearer user-ke", "Bearer user-key2"]
)
async def test_what_is_no_key(header: str) -> None:
    async with http(make_app(api_key="user-key"), headers={"authorization": header}) as client:
        assert (await client.get(_NORMAL)).status_code == 401


async def test_unknown_routes_and_documentation_need_the_key_too() -> None:
    async with http(make_app(api_key="user-key")) as client:
        for path in ("/nowhere", "/openapi.json", "/docs", "/health/", "//health"):
            assert (await client.get(path)).status_code == 401, path


async def test_aborting_everything_needs_the_rights_of_control_routes() -> None:
    serving = FakeServing()
    async with http(make_app(serving, api_key="user-key", admin_key="admin-key")) as client:
        user, admin = {"authorization": "Bearer user-key"}, {"authorization": "Bearer admin-key"}
        assert (await client.post("/abort_request", json={"abort_all": True}, headers=user)).status_code == 403
        assert (await client.post("/abort_request", json={"rid": "a"}, headers=user)).status_code == 200
        assert (await client.post("/abort_request", json={"abort_all": True}, headers=admin)).status_code == 200
    assert serving.abort_calls == [("a", False), (None, True)]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("null", 403),
        ("https://ops.example", 200),
        ("http://127.0.0.1:8000", 200),
        ("http://localhost:8000", 200),
    ],
)
async def test_web_pages_of_strangers_do_not_control_a_local_server(origin: str, status: int) -> None:
    app = make_app(cors_allow_origins=["https://ops.example", "*"])
    async with http(app, headers={"origin": origin}) as client:
        assert (await client.post("/flush_cache")).status_code == status


def test_loopback_addresses() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.com", "")))
