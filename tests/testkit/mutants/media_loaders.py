"""Broken media loaders. Each class of tests names the test that must fail."""

from __future__ import annotations

from typing import ClassVar

from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoader, MediaLoaderSpec
from hookline.testkit.media_loaders import MediaLoaderSuite

GOOD = "shelf:apple"
DATA = b"a picture of an apple"


def spec(target: str, *, schemes: tuple[str, ...] = ("shelf",)) -> MediaLoaderSpec:
    return MediaLoaderSpec(name="broken", target=f"{__name__}:{target}", schemes=schemes, summary="broken on purpose")


class Shelf(MediaLoader):
    """Right: one picture, by name."""

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        if ref != GOOD:
            raise RequestError(f"nothing lies at {ref!r:.60}", param="messages")
        if len(DATA) > limits.max_bytes:
            raise RequestError(f"{ref!r:.60} has more than {limits.max_bytes} bytes", param="messages")
        return DATA


class ShelfSuite(MediaLoaderSuite):
    bad_refs = ("shelf:", "shelf:pear")
    good_refs: ClassVar[dict[str, bytes]] = {GOOD: DATA}


class Shouts(Shelf):
    """Is listed for a scheme that no reference has."""


class TestShouts(ShelfSuite):
    spec = spec("Shouts", schemes=("SHELF:",))
    caught_by = "test_names_its_schemes"


class Cuts(Shelf):
    """Gives the beginning of what is larger than the limit, and of everything else too."""

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        return (await super().fetch(ref, limits))[:-1]


class TestCuts(ShelfSuite):
    spec = spec("Cuts")
    caught_by = "test_fetches_what_is_there"


class Boundless(Shelf):
    """Knows no limit."""

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        if ref == GOOD:
            return DATA[: limits.max_bytes]
        return await super().fetch(ref, limits)


class TestBoundless(ShelfSuite):
    spec = spec("Boundless")
    caught_by = "test_keeps_to_the_limit_of_bytes"


class Blames(Shelf):
    """Calls a wrong reference a fault of the server."""

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        if ref != GOOD:
            raise RequestError("something went wrong", status_code=500)
        return await super().fetch(ref, limits)


class TestBlames(ShelfSuite):
    spec = spec("Blames")
    caught_by = "test_says_what_is_wrong_with_a_reference"
