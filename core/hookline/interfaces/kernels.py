"""Op sets: implementations of the ops that core names and defines in ``hookline.layers.ops``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from hookline.interfaces.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSetSpec(Spec):
    """A set of ops. ``target`` is a callable ``(device, dtype, options) -> Mapping[str, Callable]``.

    Its keys are op names of ``hookline.layers.ops.OPS``; the signature is that of the torch reference with
    the same name. What a set leaves out falls back to the reference. ``ops`` lists the keys, so that
    listings need no import. Several sets may be chosen, in order: ``execution.ops = ["mine", "torch"]``.
    """

    kind: ClassVar[str] = "ops"
    known_features: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"deterministic": "has ops whose rows have the same bits in any batch, made by `deterministic_target`"}
    )

    ops: frozenset[str] = frozenset()
    #: "package.module:attribute" of what ``execution.deterministic`` calls instead of ``target``, the same way: ops
    #: whose rows have the same bits alone, in any batch and at any place in it. Goes with the feature.
    deterministic_target: str = ""
