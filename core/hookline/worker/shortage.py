"""Errors for memory that runs out while an engine starts: each names the term and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hookline.errors import MemoryBudgetError
from hookline.platform import Platform, is_out_of_memory


@contextmanager
def naming(term: str, remedy: str, platform: Platform) -> Iterator[None]:
    """Turn an error about missing memory into one that says what did not fit and what to do."""
    try:
        yield
    except Exception as exc:
        if not is_out_of_memory(exc):
            raise
        memory = platform.memory()
        raise MemoryBudgetError(
            f"{term} did not fit on {platform.device}, which has {memory.free / 2**30:.2f} of "
            f"{memory.total / 2**30:.2f} GiB free now; {remedy} (the device said: {exc})"
        ) from exc
