"""The package ``flashinfer``, imported when a backend is made: it takes seconds, and fixes its cache's place."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from hookline.errors import ConfigError

_CACHE = "FLASHINFER_WORKSPACE_BASE"


def load_flashinfer(cache_dir: str | None, module: str = "flashinfer") -> Any:
    """The package, or a module of it, with its compiled modules below ``cache_dir`` if it is given.

    Raises ``ConfigError`` if it does not import.
    """
    if cache_dir is not None and "flashinfer" not in sys.modules:
        os.environ[_CACHE] = str(Path(cache_dir).expanduser().absolute())
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise ConfigError(
            f"attention backend 'flashinfer' needs the package flashinfer-python, which does not import: {exc}; "
            "pip install 'hookline-attention[flashinfer]', or use --attention-backend triton"
        ) from exc
