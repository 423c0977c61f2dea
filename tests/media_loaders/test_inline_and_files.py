"""``data:`` URIs, and files below allowed directories."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from hookline.config.schema import MultimodalConfig
from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoaderEnv
from hookline_media.data_uri import DataLoader
from hookline_media.files import FileLoader

LIMITS = MediaLimits(max_bytes=200_000, timeout=5, max_redirects=2)


async def _inline(ref: str) -> bytes:
    return await DataLoader(MediaLoaderEnv(config=MultimodalConfig())).fetch(ref, LIMITS)


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 100_000])
@pytest.mark.parametrize("head", ["data:image/png;base64,", "data:;base64,", "data:text/plain;charset=x;BASE64,"])
async def test_base64(head: str, size: int) -> None:
    data = os.urandom(size)
    text = base64.b64encode(data).decode()
    assert await _inline(head + text) == data
    assert await _inline(head + text.rstrip("=")) == data
    assert await _inline(head + base64.urlsafe_b64encode(data).decode()) == data
    assert await _inline(head + "\n".join(text[i : i + 76] for i in range(0, len(text), 76))) == data


async def test_percent_encoding() -> None:
    assert await _inline("data:,a%20b%00") == b"a b\x00"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:;base64,!!!!", "not valid base64"),
        ("data:;base64,A", "not valid base64"),
        ("data:;base64,", "is empty"),
        ("data:;base64," + "A" * 300_000, "at most 200000 are taken"),
    ],
)
async def test_bad_uris(ref: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        await _inline(ref)


def _files(*allowed: Path) -> FileLoader:
    return FileLoader(MediaLoaderEnv(config=MultimodalConfig(allowed_media_paths=[str(path) for path in allowed])))


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "a b.png").write_bytes(b"picture")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


async def test_files_below_an_allowed_directory(allowed: Path) -> None:
    loader = _files(allowed)
    assert await loader.fetch(f"file://{allowed}/a%20b.png", LIMITS) == b"picture"
    assert await loader.fetch(f"file://localhost{allowed}/../allowed/a%20b.png", LIMITS) == b"picture"


async def test_links_count_where_they_lead(allowed: Path) -> None:
    (allowed / "out").symlink_to(allowed.parent / "secret")
    (allowed / "in").symlink_to(allowed / "a b.png")
    (allowed.parent / "door").symlink_to(allowed)
    loader = _files(allowed)
    assert await loader.fetch(f"file://{allowed}/in", LIMITS) == b"picture"
    assert await loader.fetch(f"file://{allowed.parent}/door/in", LIMITS) == b"picture"
    with pytest.raises(RequestError, match="outside of the directories"):
        await loader.fetch(f"file://{allowed}/out", LIMITS)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/no/such/file", "{}/../secret", "{}/%2e%2e/secret", "/proc/self/environ", "/proc/self/fd/0"],
)
async def test_what_lies_outside_is_not_even_said_to_exist(allowed: Path, path: str) -> None:
    with pytest.raises(RequestError, match="outside of the directories") as caught:
        await _files(allowed).fetch(f"file://{path.format(allowed)}", LIMITS)
    assert caught.value.code == "media_not_allowed"


async def test_other_bad_files(allowed: Path) -> None:
    loader = _files(allowed)
    os.mkfifo(allowed / "pipe")
    (allowed / "large").write_bytes(bytes(200_001))
    for ref, message in [
        (f"file://{allowed}/missing", "cannot be read"),
        (f"file://{allowed}", "cannot be read|no regular file"),
        (f"file://{allowed}/pipe", "no regular file"),
        (f"file://{allowed}/large", "200001 bytes; at most 200000"),
        (f"file://elsewhere{allowed}/a", "names the host 'elsewhere'"),
        (f"file://{allowed}/a%00b", "cannot be read"),
    ]:
        with pytest.raises(RequestError, match=message):
            await loader.fetch(ref, LIMITS)


async def test_no_directory_is_allowed_by_itself(allowed: Path) -> None:
    with pytest.raises(RequestError, match=r"reads no files \(allowed_media_paths\)"):
        await _files().fetch(f"file://{allowed}/a%20b.png", LIMITS)
