"""Targets: whether what a spec names is what its kind calls."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from hookline.interfaces.spec import Spec
from hookline.plugins.kinds import SPEC_TYPES


def fault_of_target(kind: str, value: Any) -> str | None:
    """What is wrong with an imported target of a kind, or ``None``: "must be a subclass of x.Y, but ..."."""
    base = target_base(SPEC_TYPES[kind])
    if base is None:
        return None if callable(value) else f"must be callable, but it is {value!r:.80}"
    name = f"{base.__module__}.{base.__qualname__}"
    if not isinstance(value, type):
        return f"must be a subclass of {name}, but it is {value!r:.80}"
    if not issubclass(value, base):
        bases = ", ".join(parent.__qualname__ for parent in value.__bases__)
        return f"must be a subclass of {name}, but it is a class on {bases}; derive it from {base.__qualname__}"
    if inspect.isabstract(value):
        missing = ", ".join(sorted(value.__abstractmethods__))  # type: ignore[attr-defined]
        return f"is not whole: {base.__qualname__} asks for {missing}, which it does not define"
    return None


def target_base(spec_type: type[Spec]) -> type[Any] | None:
    """The class that targets of a kind derive from, imported; ``None`` where any callable will do."""
    if not spec_type.target_base:
        return None
    module_name, _, attribute = spec_type.target_base.partition(":")
    base = getattr(importlib.import_module(module_name), attribute)
    assert isinstance(base, type)
    return base
