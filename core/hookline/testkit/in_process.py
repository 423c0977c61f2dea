"""An HTTP application and its clients in one process, without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from fastapi import FastAPI

from hookline.api.app import create_app
from hookline.api.families import LoadedFamily, load_families
from hookline.config.schema import HooklineConfig, ServerConfig
from hookline.interfaces.api import ApiFamilySpec
from hookline.plugins.options import check_options
from hookline.plugins.plan import PluginPlan
from hookline.plugins.resolve import choose
from hookline.testkit.fake_serving import FakeServing
from hookline.testkit.offer_suite import installed


def make_app(
    families: Sequence[str | LoadedFamily],
    serving: FakeServing | None = None,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **server: Any,
) -> FastAPI:
    """The application that ``hookline serve`` runs, over ``serving`` (a ``FakeServing()`` if none is given).

    ``families`` are names of installed ones or ready-made ones. ``options`` are plugin -> its options, as in
    the section ``plugins`` of a config file; ``server`` are settings of the section ``server``.
    """
    serving = serving or FakeServing()
    serving.config = HooklineConfig(server=ServerConfig(**server))
    ready = [installed_family(item, options) if isinstance(item, str) else item for item in families]
    return create_app(serving, ready, serving.config)


def installed_family(name: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> LoadedFamily:
    """An installed API family, as a server loads it. ``PluginError`` with what is installed for other names."""
    registry = installed()
    offer = registry.get(ApiFamilySpec, name)
    plugin = registry.plugin(offer.plugin)
    model = plugin.info.config_model
    plan = PluginPlan(
        chosen=[choose(offer)],
        source_paths=registry.source_paths,
        options={} if model is None else check_options(options or {}, registry),
        config_models={} if model is None else {plugin.name: model},
    )
    (family,) = load_families(plan)
    return family


def http(app: Callable[..., Any], **options: Any) -> httpx.AsyncClient:
    """A client that calls the application directly. ``options`` are those of ``httpx.AsyncClient``."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server", **options)
