"""What is made from the code is what the code says now, and works."""

from __future__ import annotations

import pytest

from hookline.interfaces.spec import Spec
from hookline.plugins import hookspecs, kinds
from hookline.plugins.hookspecs import hookimpl
from hookline.plugins.kinds import SPEC_TYPES
from tests.docs.blocks import blocks_of
from tests.docs.generate import COMMAND, DOCS, GENERATED, regenerated


@pytest.mark.parametrize("name", GENERATED)
def test_generated_parts_are_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == regenerated(name), f"docs/{name} is stale; run: {COMMAND}"


def test_every_example_of_a_hook_offers_what_the_hook_asks_for() -> None:
    examples = [block for block in blocks_of(DOCS / "hooks.md") if block.language == "python"]
    offered = set()
    for block in examples:
        names = {"hookimpl": hookimpl, **vars(kinds)}
        known = set(names)
        exec(block.text, names)
        (hook,) = (name for name in set(names) - known if name.startswith("hookline_"))
        assert hasattr(hookspecs, hook)
        specs = names[hook]()
        kind = hook.removeprefix("hookline_")
        assert specs
        for spec in specs:
            assert isinstance(spec, Spec)
            assert type(spec) is SPEC_TYPES[kind]
            assert spec.features <= set(spec.known_features)
        offered.add(kind)
    assert offered == set(SPEC_TYPES)
