"""Devices, sizes and dtypes that a spec's requirements allow, for suites that try them."""

from __future__ import annotations

import pytest
import torch

from hookline.interfaces.spec import Requirements


def allowed_page_sizes(requires: Requirements) -> list[int]:
    """Tokens per page, the smallest first: suites take the first where they do not try all."""
    return sorted(requires.page_sizes) or [1, 16]


def allowed_head_dims(requires: Requirements) -> list[int]:
    """64 first where it is allowed."""
    return sorted(requires.head_dims or (16, 64, 80, 128), key=lambda dim: (dim != 64, dim))


def allowed_dtypes(requires: Requirements) -> list[str]:
    """Names of compute dtypes, the most exact first."""
    return [name for name in ("float32", "float16", "bfloat16") if not requires.dtypes or name in requires.dtypes]


def device_of(requires: Requirements, wanted: str = "") -> torch.device:
    """The wanted device, else CUDA if only that is allowed, else the CPU; skips the test if it is not there."""
    device_type = wanted or ("cuda" if requires.devices and "cpu" not in requires.devices else "cpu")
    if device_type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(device_type)
