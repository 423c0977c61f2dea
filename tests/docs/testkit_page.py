"""The generated parts of docs/testkit.md: what each suite checks, and what its subclasses set."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from functools import partial
from types import MappingProxyType
from typing import Any

from hookline.scaffold.kinds import KINDS
from hookline.testkit.offer_suite import OfferSuite
from tests.docs.classes import attributes_of, member_entry
from tests.docs.markdown import on_one_line, prose, table

#: Attributes of every suite, told in the page's own words.
_COMMON = ("kind", "confirms", "name", "spec", "options")


def suites() -> dict[str, type[OfferSuite[Any]]]:
    """Every suite by the name of its class, as the scaffold knows them."""
    found = {"OfferSuite": OfferSuite}
    for kind in KINDS.values():
        for name in kind.suites:
            for value in vars(importlib.import_module(name)).values():
                if isinstance(value, type) and issubclass(value, OfferSuite) and value.__module__ == name:
                    found[value.__name__] = value
    return found


def about(name: str) -> str:
    """What a suite checks and what one sets, in Markdown."""
    return "\n\n".join(block for block in _blocks(suites()[name]) if block)


#: Marker -> what stands there.
PARTS = MappingProxyType({name: partial(about, name) for name in suites()})


def _blocks(suite: type[OfferSuite[Any]]) -> Iterator[str]:
    if suite is not OfferSuite:
        yield f"**`{suite.__module__}.{suite.__name__}`** {prose(inspect.getdoc(suite) or '')}"
        rows = [[f"`{item.name}`", f"`{item.default}`", prose(item.comment)] for item in _settable(suite)]
        yield table(["set", "default", "meaning"], rows) if rows else ""
        rows = [[f"`{feature}`", how] for feature, how in suite.confirms.items()]
        yield table(["feature", "confirmed by"], rows) if rows else ""
    helpers = "\n".join(member_entry(name, function) for name, function in _helpers(suite))
    yield f"For tests of your own:\n\n{helpers}" if helpers else ""
    yield "It checks:"
    yield "\n".join(f"- {_sentence(name, test)}" for name, test in _tests(suite))


def _own_classes(suite: type[Any]) -> list[type[Any]]:
    """The suite and what it is made of, without what every suite has."""
    if suite is OfferSuite:
        return [suite]
    return [cls for cls in reversed(suite.__mro__) if issubclass(cls, OfferSuite) and cls is not OfferSuite]


def _settable(suite: type[Any]) -> Iterator[Any]:
    seen = dict.fromkeys(_COMMON)
    items = [item for cls in _own_classes(suite) for item in attributes_of(cls) if item.is_class_variable]
    # The last one stands: a subclass says it better than its base.
    for item in {item.name: item for item in items}.values():
        if item.name not in seen and not item.name.startswith("_"):
            yield item


def _tests(suite: type[Any]) -> Iterator[tuple[str, Any]]:
    for cls in _own_classes(suite):
        for name, value in vars(cls).items():
            if name.startswith("test_"):
                yield name, value


def _helpers(suite: type[Any]) -> Iterator[tuple[str, Any]]:
    found = {name: value for cls in _own_classes(suite) for name, value in vars(cls).items()}
    for name, value in found.items():
        if isinstance(value, classmethod | staticmethod) and not name.startswith("_"):
            yield name, value.__func__


def _sentence(name: str, test: Any) -> str:
    """ "test_keeps_its_order" with the first sentence of its docstring, where it has one."""
    function = inspect.unwrap(test)
    told = on_one_line(prose(inspect.getdoc(function) or "").split("\n\n")[0])
    return name.removeprefix("test_").replace("_", " ") + (f": {told}" if told else "")
