"""Spec: the offer of one implementation, and what it requires. Pure data, cheap to make and to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What must hold before an implementation can be chosen. Checked before weights load; empty means any.

    Every unmet line becomes one readable reason in the resolution's answer.
    """

    #: Device types that work: "cpu", "cuda".
    devices: frozenset[str] = frozenset()
    #: Least CUDA compute capability, (9, 0) for Hopper. Ignored on other devices.
    min_capability: tuple[int, int] | None = None
    #: Names of compute dtypes: "float32", "bfloat16", "float16".
    dtypes: frozenset[str] = frozenset()
    #: Head dimensions of the model's attention.
    head_dims: frozenset[int] = frozenset()
    #: Tokens per page of the KV cache; ``auto`` picks one that the attention backend takes.
    page_sizes: frozenset[int] = frozenset()
    #: Requirement strings as in pyproject.toml: "triton>=3.6". Checked from metadata, not by import.
    packages: tuple[str, ...] = ()
    #: Program that it runs, as a compiler -> the package that makes it unnecessary, or "". Looked for on PATH and
    #: where CUDA keeps its own: {"nvcc": "flashinfer-jit-cache"}.
    programs: Mapping[str, str] = field(default_factory=dict)
    #: Dotted config path -> the value it must have: {"cache.page_size": 1}.
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One offer: a name, the place of the implementation, and what it needs and supports.

    ``target`` is "package.module:attribute"; it is imported only when the spec is chosen, in each
    process that uses it. Each kind below names what calls the target and with which arguments.
    """

    #: The kind that this class of specs belongs to; the same word as in the hook's name.
    kind: ClassVar[str] = ""
    #: The contract version of the kind that core speaks.
    current_api_version: ClassVar[int] = 1
    #: The oldest contract version that core still serves, with a warning; see ``hookline.deprecations``.
    oldest_api_version: ClassVar[int] = 1
    #: "package.module:Class" of which ``target`` must be a subclass; "" if it is any callable.
    target_base: ClassVar[str] = ""
    #: Features that the kind's contract knows -> what a backend that declares one supports.
    known_features: ClassVar[Mapping[str, str]] = MappingProxyType({})

    #: What users write to choose it: ``--attention-backend NAME``.
    name: str
    #: "package.module:attribute".
    target: str
    #: The contract version that the implementation was written for.
    api_version: int = 1
    requires: Requirements = Requirements()
    #: What the implementation supports beyond the base contract. What is not listed is refused.
    features: frozenset[str] = frozenset()
    #: "package.module:function" that names what `hookline kernels prebuild` can compile ahead, called with a
    #: ``hookline.interfaces.prebuild.PrebuildEnv``; "" if it compiles nothing but what a warm-up run does.
    prebuild: str = ""
    #: Features that this choice demands of other kinds: {"attention_backends": {"mask.tree"}}.
    imposes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Higher is tried first by ``auto``. 0 is a sound default, negative a last resort.
    priority: int = 0
    #: One line for `hookline plugins list`.
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What a plugin module says of itself, as its module attribute ``PLUGIN``."""

    #: The key of its options in the config: ``plugins.<name>``. Equals the entry point's name.
    name: str
    #: The version of the plugin contract as a whole.
    api_version: int = 1
    #: Kinds it offers, for listings: ("attention_backends",).
    provides: tuple[str, ...] = ()
    #: "package.module:Model" of a pydantic model for its options, if it has any.
    config_model: str | None = None
    #: One line for `hookline plugins show`.
    summary: str = ""
