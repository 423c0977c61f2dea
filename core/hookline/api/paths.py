"""PathSet: which requests go to which routes, told by path alone."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.routing import compile_path


class PathSet:
    """Paths of routes, parameters in braces; contains the paths of requests that they match."""

    def __init__(self, paths: Collection[str]) -> None:
        self._fixed = frozenset(path for path in paths if "{" not in path)
        self._patterns: list[re.Pattern[str]] = [compile_path(path)[0] for path in paths if "{" in path]

    def __contains__(self, path: str) -> bool:
        return path in self._fixed or any(pattern.match(path) for pattern in self._patterns)
