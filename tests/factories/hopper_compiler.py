"""Compiles Triton kernels for a Hopper GPU on a machine without one: launches become compilations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver


class _HopperDriver:
    """What Triton asks of a driver before it launches anything."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling_for_hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """In the ``with`` block every launch compiles its kernel and runs nothing; gives the kernels' names."""
    compiled: list[str] = []
    run = triton.runtime.JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        kernel.result() if hasattr(kernel, "result") else None
        compiled.append(self.fn.__name__)
        return kernel

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_active", _HopperDriver())
        patch.setattr(triton.runtime.JITFunction, "run", compile_only)
        yield compiled
