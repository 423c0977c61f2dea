"""Conformance of media loaders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

import pytest

from hookline.config.schema import MultimodalConfig
from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoader, MediaLoaderEnv, MediaLoaderSpec
from hookline.testkit.offer_suite import OfferSuite


class MediaLoaderSuite(OfferSuite[MediaLoaderSpec]):
    """Limits, and errors that say what is wrong with a reference. Set ``bad_refs``, and ``good_refs`` if you can."""

    kind = "media_loaders"

    #: References of the loader's schemes that cannot be fetched.
    bad_refs: ClassVar[tuple[str, ...]] = ()
    #: Reference -> the bytes behind it, for loaders whose references hold their data or can be set up in a test.
    good_refs: ClassVar[Mapping[str, bytes]] = {}

    @classmethod
    def loader(cls) -> MediaLoader:
        """A loader under a configuration that allows nothing special."""
        loader = cls.target()(MediaLoaderEnv(config=MultimodalConfig(), options=cls.checked_options()))
        assert isinstance(loader, MediaLoader), "the target must be a subclass of MediaLoader"
        return loader

    def test_names_its_schemes(self) -> None:
        schemes = self.offer().spec.schemes
        assert schemes, "a loader answers for at least one scheme"
        assert all(scheme == scheme.lower() and not scheme.endswith(":") for scheme in schemes)

    def test_fetches_what_is_there(self) -> None:
        for ref, data in self.good_refs.items():
            assert self._fetch(ref, len(data)) == data

    def test_keeps_to_the_limit_of_bytes(self) -> None:
        for ref, data in self.good_refs.items():
            with pytest.raises(RequestError):
                self._fetch(ref, len(data) - 1)

    def test_says_what_is_wrong_with_a_reference(self) -> None:
        for ref in self.bad_refs:
            with pytest.raises(RequestError) as caught:
                self._fetch(ref, 1000)
            assert caught.value.status_code < 500

    def _fetch(self, ref: str, max_bytes: int) -> bytes:
        async def fetch() -> bytes:
            loader = self.loader()
            try:
                data = await loader.fetch(ref, MediaLimits(max_bytes=max_bytes, timeout=5.0, max_redirects=1))
                assert len(data) <= max_bytes
                return data
            finally:
                await loader.close()

        return asyncio.run(fetch())
