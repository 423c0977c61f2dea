"""Context: the facts that requirements are checked against, all known before weights load."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """A requirement that does not hold."""

    #: What is needed and what is: "runs on cuda, the device is cpu".
    reason: str
    #: What would make it hold: "pip install 'triton>=3.6'".
    remedy: str


def unmet(requires: Requirements, context: Context) -> list[str]:
    """One reason for each requirement that does not hold."""
    return [item.reason for item in find_unmet(requires, context)]


def find_unmet(requires: Requirements, context: Context) -> list[Unmet]:
    """Each requirement that does not hold, with what it would take."""
    return [
        *_unmet_device(requires, context),
        *_unmet_sizes(requires, context),
        *_unmet_config(requires.config, context.config),
        *(item for line in requires.packages if (item := _unmet_package(line))),
        *(item for name, package in requires.programs.items() if (item := _unmet_program(name, package))),
    ]


def _unmet_device(requires: Requirements, context: Context) -> Iterator[Unmet]:
    if requires.devices and context.device is not None and context.device not in requires.devices:
        wanted = _any_of(requires.devices)
        reason = f"runs on {wanted}, the device is {context.device}"
        yield Unmet(reason=reason, remedy=f"a machine with {wanted}, or --device {wanted} where it has one")
    if requires.min_capability is not None and context.device == "cuda":
        least = ".".join(map(str, requires.min_capability))
        remedy = f"a GPU of compute capability {least} or newer"
        if context.capability is None:
            reason = f"needs compute capability {least}, that of the device is not known"
            yield Unmet(reason=reason, remedy=remedy)
        elif context.capability < requires.min_capability:
            here = ".".join(map(str, context.capability))
            yield Unmet(reason=f"needs compute capability {least}, the device has {here}", remedy=remedy)


def _unmet_sizes(requires: Requirements, context: Context) -> Iterator[Unmet]:
    if requires.dtypes and context.dtype is not None and context.dtype not in requires.dtypes:
        wanted = _any_of(requires.dtypes)
        yield Unmet(reason=f"computes in {wanted}, the dtype is {context.dtype}", remedy=f"--dtype {wanted}")
    if requires.head_dims and context.head_dim is not None and context.head_dim not in requires.head_dims:
        wanted = _any_of(requires.head_dims)
        reason = f"handles head dimension {wanted}, the model has {context.head_dim}"
        yield Unmet(reason=reason, remedy=f"a model with head dimension {wanted}")
    page_size = context.config.get("cache.page_size", AUTO)
    if requires.page_sizes and page_size != AUTO and page_size not in requires.page_sizes:
        wanted = _any_of(requires.page_sizes)
        reason = f"handles page size {wanted}, cache.page_size is {page_size}"
        yield Unmet(reason=reason, remedy=f"--page-size {wanted}, or auto")


def _unmet_config(wanted: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Unmet]:
    for path, value in wanted.items():
        if path not in config:
            reason = f"needs {path} = {value!r}, but there is no such setting in this core"
            yield Unmet(reason=reason, remedy="another version of hookline-core")
        elif config[path] not in (AUTO, value):
            reason = f"needs {path} = {value!r}, it is {config[path]!r}"
            yield Unmet(reason=reason, remedy=f"--set {path}={value}")


def _unmet_package(line: str) -> Unmet | None:
    """Checked from metadata: importing the package could take seconds or touch a device."""
    wanted = Requirement(line)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    remedy = f"pip install '{wanted.name}{wanted.specifier}'"
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        reason = f"needs the package {wanted.name}{wanted.specifier}, which is not installed"
        return Unmet(reason=reason, remedy=remedy)
    if not wanted.specifier.contains(version, prereleases=True):
        return Unmet(reason=f"needs the package {wanted.name}{wanted.specifier}, installed is {version}", remedy=remedy)
    return None


def _unmet_program(name: str, package: str) -> Unmet | None:
    """Found, or made unnecessary by the package."""
    folders = [os.path.join(home, "bin") for home in _cuda_homes()]
    if shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders)):
        return None
    if package and _unmet_package(package) is None:
        return None
    instead = f", or the package {package}" if package else ""
    reason = f"needs the program {name}, which is neither on PATH nor in {' or '.join(folders)}{instead}"
    remedy = f"install {name}" + (f", or pip install '{package}'" if package else "")
    return Unmet(reason=reason, remedy=remedy)


def _cuda_homes() -> list[str]:
    """Where the CUDA toolkit may be."""
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return [*named, "/usr/local/cuda"]


def _any_of(values: frozenset[Any]) -> str:
    return " or ".join(str(value) for value in sorted(values))
