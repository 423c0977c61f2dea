"""A feature exists where its kind's contract lists it, and its suite confirms it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hookline.testkit
from hookline.plugins.kinds import SPEC_TYPES
from hookline.testkit.offer_suite import OfferSuite


def suites() -> Iterator[type[OfferSuite[Any]]]:
    folder = Path(hookline.testkit.__file__).parent
    for file in sorted(folder.glob("*.py")):
        if "Suite(OfferSuite" in file.read_text(encoding="utf-8"):
            module = importlib.import_module(f"hookline.testkit.{file.stem}")
            yield from (
                value
                for value in vars(module).values()
                if isinstance(value, type) and issubclass(value, OfferSuite) and "kind" in vars(value)
            )


SUITES = {suite.kind: suite for suite in suites()}
#: Features whose names are taken already -> why no suite can confirm them yet, so that nobody may declare them.
AWAITED: dict[str, dict[str, str]] = {}


@pytest.mark.parametrize("kind", SUITES)
def test_a_suite_confirms_exactly_the_features_of_its_contract(kind: str) -> None:
    confirmed, awaited = set(SUITES[kind].confirms), set(AWAITED.get(kind, ()))
    assert confirmed & awaited == set()
    assert confirmed | awaited == set(SPEC_TYPES[kind].known_features)


def test_every_kind_with_features_has_a_suite() -> None:
    assert {kind for kind, spec_type in SPEC_TYPES.items() if spec_type.known_features} - set(SUITES) == set()
