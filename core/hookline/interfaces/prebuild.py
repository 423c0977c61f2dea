"""Prebuilding: what a plugin compiles at first use, named so that it can be compiled ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from hookline.config.model_config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PrebuildEnv:
    """The engine to compile for. Argument of the function that ``Spec.prebuild`` names."""

    model: ModelConfig
    device: torch.device
    dtype: torch.dtype
    page_size: int
    #: Directory for what is compiled; ``None``: where each library keeps it anyway.
    kernel_cache_dir: str | None = None
    #: The plugin's own options (its config model) or ``None``.
    options: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBuild:
    """One thing to compile. The function that ``Spec.prebuild`` names gives a list of them."""

    #: As it is shown: "batch_prefill, fa3, 128".
    name: str
    #: Whether it lies in the cache already.
    is_cached: bool
    #: Compiles it into the cache; raises what the compiler says. Several may run at once, in threads.
    build: Callable[[], None]
