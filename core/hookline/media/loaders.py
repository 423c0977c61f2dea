"""MediaLoaders: the chosen loaders by the schemes that they answer for."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from hookline.config.schema import MultimodalConfig
from hookline.errors import PluginError, RequestError
from hookline.interfaces.multimodal import MediaLimits, MediaLoader, MediaLoaderEnv
from hookline.media.limits import checked_file
from hookline.plugins.plan import PluginPlan

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


class MediaLoaders:
    """Fetches references of all kinds."""

    def __init__(self, loaders: Mapping[str, MediaLoader]) -> None:
        """``loaders`` by scheme, in lower case."""
        self._loaders = dict(loaders)

    @classmethod
    def load(cls, plugins: PluginPlan, config: MultimodalConfig) -> MediaLoaders:
        """Those of a plan. Raises ``PluginError`` when one does not load, or two answer for one scheme."""
        loaders: dict[str, MediaLoader] = {}
        owners: dict[str, str] = {}
        for spec in plugins.of_kind("media_loaders"):
            loader = plugins.load(spec)(MediaLoaderEnv(config=config, options=plugins.options_of(spec)))
            for scheme in spec.details.get("schemes", ()):
                if scheme in owners:
                    raise PluginError(
                        f"media loaders '{owners[scheme]}' and '{spec.name}' both answer for '{scheme}:'; "
                        "disable the plugin of one (disabled_plugins)"
                    )
                owners[scheme] = spec.name
                loaders[scheme] = loader
        return cls(loaders)

    async def fetch(self, ref: str, limits: MediaLimits) -> bytes:
        """The bytes behind a reference. Raises ``RequestError`` saying what is wrong with it."""
        found = _SCHEME.match(ref)
        scheme = found.group(1).lower() if found else ""
        loader = self._loaders.get(scheme)
        if loader is None:
            known = ", ".join(f"{name}:" for name in sorted(self._loaders)) or "none"
            given = f"'{scheme}:'" if scheme else f"{ref!r:.40}, which has no scheme"
            raise RequestError(f"it refers to {given}; this server fetches from: {known}", code="media_not_allowed")
        return checked_file(await loader.fetch(ref, limits), limits)

    async def close(self) -> None:
        """Let all loaders give back what they hold."""
        for loader in {id(loader): loader for loader in self._loaders.values()}.values():
            with contextlib.suppress(OSError):
                await loader.close()
