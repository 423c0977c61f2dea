"""Segments of shared memory: written once, read by other processes, named after the process that owns them.

They are files below /dev/shm, so that neither Python's resource tracker nor a reader's end removes them.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from pathlib import Path

from hookline.errors import OverloadedError

#: Where Linux shows shared memory as files.
FOLDER = Path("/dev/shm")


def free_bytes() -> int:
    """What shared memory has room for now."""
    facts = os.statvfs(FOLDER)
    return facts.f_bavail * facts.f_frsize


def create_segment(name: str, size: int) -> mmap.mmap:
    """A new segment, mapped for writing. Its memory is there: writing to it cannot fail later.

    Raises ``OverloadedError`` when there is no more shared memory.
    """
    handle = os.open(FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(handle, 0, max(1, size))
        return mmap.mmap(handle, max(1, size))
    except OSError as exc:
        remove_segment(name)
        if exc.errno in (errno.ENOSPC, errno.ENOMEM):
            raise OverloadedError(
                f"there is no room for {size} bytes of media in {FOLDER}; try again later, or give the server more "
                "shared memory (docker: --shm-size)"
            ) from exc
        raise
    finally:
        os.close(handle)


def remove_segment(name: str) -> None:
    """Take a segment's name away; its memory goes with its last reader. One that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(FOLDER / name)


def remove_segments(prefix: str) -> None:
    """All segments whose names begin so."""
    for path in FOLDER.glob(f"{prefix}*"):
        remove_segment(path.name)
