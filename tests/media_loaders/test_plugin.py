"""What hookline-media offers."""

from __future__ import annotations

from hookline.interfaces.multimodal import MediaLoaderSpec
from hookline.plugins.manager import load_plugins


def test_hook_media_loaders() -> None:
    offers = {offer.spec.name: offer.spec.schemes for offer in load_plugins().offers(MediaLoaderSpec)}
    assert offers == {"web": ("http", "https"), "inline": ("data",), "files": ("file",)}
