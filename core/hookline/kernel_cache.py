"""The cache of compiled kernels: where it is, and what is in it. Imports nothing that compiles."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

#: The variable from which Triton takes the place of its cache, whenever it compiles.
_TRITON = "TRITON_CACHE_DIR"


def use_kernel_cache(folder: str | None) -> None:
    """Let this process keep its compiled Triton kernels below ``folder``; ``None``: wherever they are kept anyway.

    Plugins that compile by other means are told the folder when they are made.
    """
    if folder is not None:
        os.environ[_TRITON] = str(_triton_cache(folder))


def compiled_kernels(folder: str | None) -> Counter[str]:
    """Triton kernels in the cache: name -> variants."""
    # A variant has a folder of its own, which holds its metadata and those of the group that it belongs to.
    files = _triton_cache(folder).glob("*/*.json")
    return Counter(file.stem for file in files if not file.name.startswith("__grp__"))


def _triton_cache(folder: str | None) -> Path:
    if folder is not None:
        return Path(folder).expanduser().absolute() / "triton"
    given = os.environ.get(_TRITON)
    home = Path(os.environ.get("TRITON_HOME") or Path.home())
    return Path(given) if given else home / ".triton" / "cache"
