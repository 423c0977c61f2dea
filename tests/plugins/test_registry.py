"""Registry: typed look-up, order, near misses, and who wins."""

from __future__ import annotations

import pytest

from hookline.errors import PluginError
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.pooling import PoolerSpec
from hookline.plugins.registry import BrokenPlugin, DisabledPlugin, Registry
from tests.factories.offers import plugin_of, registry_of


def backend(name: str, priority: int = 0) -> AttentionBackendSpec:
    return AttentionBackendSpec(name=name, target="a:b", priority=priority)


def test_offers_come_best_first_and_by_kind() -> None:
    pooler = PoolerSpec(name="last", target="a:b")
    registry = registry_of(backend("slow", -1), backend("b"), pooler, backend("a"), backend("fast", 5))
    assert [offer.spec.name for offer in registry.offers(AttentionBackendSpec)] == ["fast", "a", "b", "slow"]
    assert [offer.spec for offer in registry.of_kind("poolers")] == [pooler]


def test_every_offer_carries_its_origin() -> None:
    registry = Registry(plugins=[plugin_of(backend("x"), name="mine", distribution="my-dist", version="2.1")])
    offer = registry.get(AttentionBackendSpec, "x")
    assert (offer.plugin, offer.distribution, offer.version, offer.source) == ("mine", "my-dist", "2.1", "my-dist 2.1")


def test_unknown_name_has_the_near_miss() -> None:
    with pytest.raises(PluginError) as info:
        registry_of(backend("triton"), backend("torch_native")).get(AttentionBackendSpec, "trition")
    assert str(info.value) == (
        "unknown attention backend 'trition'; did you mean 'triton'? (known: torch_native, triton)"
    )


def test_unknown_name_without_a_near_miss_names_the_package() -> None:
    with pytest.raises(PluginError, match=r"\(known: triton\); a plugin may bring it: pip install hookline-flash-x"):
        registry_of(backend("triton")).get(AttentionBackendSpec, "flash_x")


def test_unknown_name_tells_of_broken_plugins() -> None:
    broken = BrokenPlugin(name="triton", distribution="hookline-triton", version="1", reason="no libcuda")
    with pytest.raises(PluginError, match=r"plugin 'triton' of hookline-triton 1 is broken: no libcuda"):
        Registry(broken=[broken]).get(AttentionBackendSpec, "triton")


def test_unknown_kind_has_the_near_miss() -> None:
    with pytest.raises(PluginError, match="unknown kind of plugin 'poolrs'; did you mean 'poolers'"):
        registry_of().of_kind("poolrs")


def test_unknown_plugin_names_the_package() -> None:
    with pytest.raises(PluginError, match=r"no plugin 'flash' is installed; to install it: pip install hookline-flash"):
        registry_of(backend("x")).plugin("flash")


def test_preference_for_a_distribution_that_does_not_offer_is_a_problem() -> None:
    registry = registry_of(backend("x"), prefer={"attention_backends.x": "someone-else"})
    assert "offered by fake-mine 1.0, but not by 'someone-else'" in registry.problems[0]


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("attention.x", r"prefer: 'attention.x' must be <kind>.<name>; unknown kind 'attention'"),
        ("attention_backends.y", r"prefer: unknown attention backend 'y'"),
    ],
)
def test_preference_for_nothing_is_a_problem(key: str, sentence: str) -> None:
    assert sentence in registry_of(backend("x"), prefer={key: "fake-mine"}).problems[0]


def test_report_lists_every_plugin_with_its_state() -> None:
    registry = Registry(
        plugins=[plugin_of(backend("x"))],
        broken=[BrokenPlugin(name="bad", distribution="fake-bad", version="1", reason="boom")],
        disabled=[DisabledPlugin(name="off", distribution="fake-off", version="1")],
    )
    report = registry.report()
    assert [(plugin["name"], plugin["status"]) for plugin in report["plugins"]] == [
        ("mine", "loaded"),
        ("bad", "broken"),
        ("off", "disabled"),
    ]
    assert report["plugins"][0]["offers"] == [{"kind": "attention_backends", "name": "x"}]
    assert report["plugins"][1]["reason"] == "boom"
