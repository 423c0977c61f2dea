"""Context: the facts that requirements are checked against, all known before weights load."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import Requirement

from hookline.interfaces.spec import Requirements

#: A config value that resolution has yet to fill in.
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Facts. ``None`` (or "auto" in ``config``) is not known yet, and refuses nobody."""

    #: "cpu" or "cuda".
    device: str | None = None
    #: CUDA compute capability.
    capability: tuple[int, int] | None = None
    #: Compute dtype: "float32", "bfloat16", "float16".
    dtype: str | None = None
    head_dim: int | None = None
    #: Dotted path -> value of every setting; "cache.page_size" is checked against ``page_sizes`` too.
    config: Mapping[str, Any] = field(default_factory=dict)


def unmet(requires: Requirements, context: Context) -> list[str]:
    """One reason for each requirement that does not hold."""
    reasons = []
    if requires.devices and context.device is not None and context.device not in requires.devices:
        reasons.append(f"runs on {_any_of(requires.devices)}, the device is {context.device}")
    if requires.min_capability is not None and context.device == "cuda":
        least = ".".join(map(str, requires.min_capability))
        if context.capability is None:
            reasons.append(f"needs compute capability {least}, that of the device is not known")
        elif context.capability < requires.min_capability:
            reasons.append(f"needs compute capability {least}, the device has {'.'.join(map(str, context.capability))}")
    if requires.dtypes and context.dtype is not None and context.dtype not in requires.dtypes:
        reasons.append(f"computes in {_any_of(requires.dtypes)}, the dtype is {context.dtype}")
    if requires.head_dims and context.head_dim is not None and context.head_dim not in requires.head_dims:
        reasons.append(f"handles head dimension {_any_of(requires.head_dims)}, the model has {context.head_dim}")
    page_size = context.config.get("cache.page_size", AUTO)
    if requires.page_sizes and page_size != AUTO and page_size not in requires.page_sizes:
        reasons.append(f"handles page size {_any_of(requires.page_sizes)}, cache.page_size is {page_size}")
    reasons.extend(_unmet_config(requires.config, context.config))
    reasons.extend(reason for line in requires.packages if (reason := _unmet_package(line)))
    return reasons


def _unmet_config(wanted: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    reasons = []
    for path, value in wanted.items():
        if path not in config:
            reasons.append(f"needs {path} = {value!r}, but there is no such setting in this core")
        elif config[path] not in (AUTO, value):
            reasons.append(f"needs {path} = {value!r}, it is {config[path]!r}")
    return reasons


def _unmet_package(line: str) -> str | None:
    """Checked from metadata: importing the package could take seconds or touch a device."""
    wanted = Requirement(line)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"needs the package {wanted.name}{wanted.specifier}, which is not installed"
    if not wanted.specifier.contains(version, prereleases=True):
        return f"needs the package {wanted.name}{wanted.specifier}, installed is {version}"
    return None


def _any_of(values: frozenset[Any]) -> str:
    return " or ".join(str(value) for value in sorted(values))
