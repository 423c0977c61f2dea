"""FileLoader: files of the server's machine, below directories that the configuration names."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoader, MediaLoaderEnv


class FileLoader(MediaLoader):
    """``file:///path``. What counts is where a path leads, not how it is written."""

    def __init__(self, env: MediaLoaderEnv) -> None:
        super().__init__(env)
        self._allowed = [Path(path).expanduser().resolve() for path in env.config.allowed_media_paths]

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        parts = urlsplit(ref)
        if parts.netloc not in ("", "localhost"):
            raise RequestError(f"its file: URL names the host '{parts.netloc:.80}'; write file:///path")
        if not self._allowed:
            raise RequestError(
                "this server reads no files (allowed_media_paths); send a data: URI or a web address",
                code="media_not_allowed",
            )
        return await asyncio.to_thread(self._read, unquote(parts.path), limits)

    def _read(self, path: str, limits: MediaLimits) -> bytes:
        try:
            place = Path(path).resolve()
        except (OSError, ValueError, RuntimeError) as exc:
            raise RequestError(f"the file cannot be read: {exc}") from exc
        self._check(place)
        try:
            # Not blocking: a pipe must not hold the thread.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise RequestError(f"the file cannot be read: {exc}") from exc
        try:
            # What was opened, whatever has become of the path meanwhile.
            self._check(Path(f"/proc/self/fd/{handle}").resolve())
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise RequestError("it is no regular file")
            if facts.st_size > limits.max_bytes:
                raise RequestError(
                    f"the file has {facts.st_size} bytes; at most {limits.max_bytes} are taken", code="media_too_large"
                )
            with open(handle, "rb", closefd=False) as file:
                return file.read(limits.max_bytes + 1)
        finally:
            os.close(handle)

    def _check(self, path: Path) -> None:
        if not any(path.is_relative_to(directory) for directory in self._allowed):
            raise RequestError(
                "it lies outside of the directories that this server may read (allowed_media_paths)",
                code="media_not_allowed",
            )
