"""Sizes and dtypes that a spec's requirements allow, for suites that try them all. The first serves other tests."""

from __future__ import annotations

from hookline.interfaces.spec import Requirements


def allowed_page_sizes(requires: Requirements) -> list[int]:
    """Tokens per page, the smallest first."""
    return sorted(requires.page_sizes) or [1, 16]


def allowed_head_dims(requires: Requirements) -> list[int]:
    """64 first where it is allowed."""
    return sorted(requires.head_dims or (16, 64, 80, 128), key=lambda dim: (dim != 64, dim))


def allowed_dtypes(requires: Requirements) -> list[str]:
    """Names of compute dtypes, the most exact first."""
    return [name for name in ("float32", "float16", "bfloat16") if not requires.dtypes or name in requires.dtypes]
