"""Hookline: an LLM and VLM serving engine, a small core plus plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hookline._version import __version__

if TYPE_CHECKING:
    from hookline.engine import Engine
    from hookline.plugins.hookspecs import hookimpl
    from hookline.sampling_params import SamplingParams

__all__ = ["Engine", "SamplingParams", "__version__", "hookimpl"]


def __getattr__(name: str) -> Any:
    # Lazy, so that a plugin's module can import hookimpl without importing torch.
    if name == "Engine":
        from hookline.engine import Engine

        return Engine
    if name == "SamplingParams":
        from hookline.sampling_params import SamplingParams

        return SamplingParams
    if name == "hookimpl":
        from hookline.plugins.hookspecs import hookimpl

        return hookimpl
    raise AttributeError(f"module 'hookline' has no attribute '{name}'")
