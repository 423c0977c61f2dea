"""How the contract changes: a warning for one minor release, then an error, each saying which side to upgrade."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hookline.deprecations import DEPRECATIONS, Deprecation, Deprecations, Subject, deprecated
from hookline.errors import HooklineDeprecationWarning, PluginError, ResolutionError
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.pooling import PoolerSpec
from hookline.plugins import contract
from hookline.plugins.context import Context
from hookline.plugins.kinds import SPEC_TYPES
from hookline.plugins.manager import load_plugins
from hookline.plugins.registry import Registry
from hookline.plugins.resolve import choose, resolve
from tests.factories.distributions import hook, install, only

BEFORE, WARNS, REFUSES = "0.1.3", "0.2.0", "0.3.0"
OLD_POOLER = hook("poolers", '[PoolerSpec(name="old", target="PACKAGE.impl:Old")]')
NEW_POOLER = hook("poolers", '[PoolerSpec(name="new", target="PACKAGE.impl:New", api_version=2)]')


def deprecations(version: str, subject: Subject, name: str, instead: str = "use the other one") -> Deprecations:
    """One thing, deprecated by 0.2 and removed by 0.3, seen by a core of some version."""
    entry = Deprecation(subject=subject, name=name, since="0.2", removed="0.3", instead=instead)
    return Deprecations([entry], version=version)


def load(monkeypatch: pytest.MonkeyPatch, folder: Path, seen: Deprecations) -> Registry:
    """What an engine of that version loads; warnings are errors in tests."""
    only(monkeypatch, [folder])
    return load_plugins(deprecations=seen)


def warned(monkeypatch: pytest.MonkeyPatch, folder: Path, seen: Deprecations) -> str:
    """The one warning of a load."""
    with pytest.warns(HooklineDeprecationWarning) as caught:
        load(monkeypatch, folder, seen)
    (warning,) = caught
    assert warning.filename.startswith(str(folder)), "the warning points into the plugin"
    return str(warning.message)


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract of poolers has moved to 2, and 1 is still served."""
    monkeypatch.setattr(PoolerSpec, "current_api_version", 2)


@pytest.mark.usefixtures("second_version")
def test_the_last_version_of_a_family_is_served_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "mine", OLD_POOLER)
    install(tmp_path, "other", NEW_POOLER)
    seen = deprecations(WARNS, "contract", "poolers 1", "take is_last by keyword")
    text = warned(monkeypatch, tmp_path, seen)
    assert text == (
        "poolers 'old' of plugin 'mine' of fake-mine 1.0 was written for version 1 of poolers, which hookline-core 0.3 "
        "will refuse; upgrade fake-mine (its authors: take is_last by keyword)"
    )
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [text]
    registry = load_plugins(deprecations=seen, strict=False)
    chosen = choose(resolve(registry, "poolers", "old", Context()).chosen[0])
    assert chosen.api_version == 1, "core knows how to call it"
    assert registry.report()["plugins"][0]["deprecated"] == [text]


@pytest.mark.usefixtures("second_version")
def test_the_next_minor_release_refuses_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "mine", OLD_POOLER)
    install(tmp_path, "other", NEW_POOLER)
    registry = load(monkeypatch, tmp_path, deprecations(REFUSES, "contract", "poolers 1"))
    assert registry.broken == ()
    with pytest.raises(ResolutionError) as info:
        resolve(registry, "poolers", "old", Context())
    assert str(info.value) == (
        "poolers 'old' of fake-mine 1.0, named by poolers, cannot be used: was written for version 1 of poolers, which "
        "hookline-core 0.3 has ended (this is 0.3.0); upgrade fake-mine (its authors: use the other one); "
        "what fits: new"
    )


def test_versions_outside_what_core_speaks_say_which_side_to_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoolerSpec, "current_api_version", 4)
    monkeypatch.setattr(PoolerSpec, "oldest_api_version", 3)
    specs = ", ".join(f'PoolerSpec(name="v{n}", target="a:b", api_version={n})' for n in (2, 4, 5))
    install(tmp_path, "mine", hook("poolers", f"[{specs}]"))
    registry = load(monkeypatch, tmp_path, Deprecations())
    reasons = {offer.spec.name: offer.refused for offer in registry.offers(PoolerSpec)}
    assert reasons == {
        "v2": ("was written for version 2 of poolers, this core speaks 3 to 4; upgrade fake-mine",),
        "v4": (),
        "v5": ("was written for version 5 of poolers, this core speaks 3 to 4; upgrade hookline-core",),
    }


def test_the_contract_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "CONTRACT_VERSION", 2)
    install(tmp_path, "mine", OLD_POOLER)
    install(tmp_path, "other", info="api_version=2")
    text = warned(monkeypatch, tmp_path, deprecations(WARNS, "contract", "PluginInfo 1", "raise api_version"))
    assert text == (
        "plugin 'mine' of fake-mine 1.0 was written for version 1 of the plugin contract, which hookline-core 0.3 will "
        "refuse; upgrade fake-mine (its authors: raise api_version)"
    )
    (broken,) = load(monkeypatch, tmp_path, deprecations(REFUSES, "contract", "PluginInfo 1")).broken
    assert "it was written for version 1 of the plugin contract, which hookline-core 0.3 has ended" in str(broken)


USES: list[tuple[Subject, str, str]] = [
    ("hook", "hookline_poolers", "plugin 'mine' of fake-mine 1.0 uses the hook hookline_poolers"),
    ("field", "PluginInfo.summary", "plugin 'mine' of fake-mine 1.0 uses the field PluginInfo.summary"),
    ("field", "PoolerSpec.needs_all_tokens", "poolers 'all' of plugin 'mine' of fake-mine 1.0 uses the field Pooler"),
    ("field", "Spec.priority", "poolers 'all' of plugin 'mine' of fake-mine 1.0 uses the field Spec.priority"),
    ("field", "Requirements.devices", "poolers 'all' of plugin 'mine' of fake-mine 1.0 uses the field Requirements"),
    ("feature", "attention_backends: sinks", "attention_backends 'a' of plugin 'mine' of fake-mine 1.0 uses the featu"),
]


def install_user(folder: Path) -> None:
    """A plugin that uses each of the above, in one of its two offers of poolers."""
    all_fields = 'needs_all_tokens=True, priority=3, requires=Requirements(devices=frozenset({"cpu"}))'
    install(
        folder,
        "mine",
        hook(
            "poolers",
            f'[PoolerSpec(name="all", target="a:b", {all_fields}), PoolerSpec(name="plain", target="a:b")]',
        ),
        hook(
            "attention_backends",
            '[AttentionBackendSpec(name="a", target="a:b", features=frozenset({"sinks", "mixed"}))]',
        ),
        info='summary="mine"',
    )
    install(folder, "other")


@pytest.mark.parametrize(("subject", "name", "begins"), USES)
def test_what_is_deprecated_warns_for_one_minor_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Subject, name: str, begins: str
) -> None:
    install_user(tmp_path)
    load(monkeypatch, tmp_path, deprecations(BEFORE, subject, name))
    text = warned(monkeypatch, tmp_path, deprecations(WARNS, subject, name))
    assert text.startswith(begins)
    assert text.endswith(
        f"{name}, which is deprecated since hookline-core 0.2 and will be refused by 0.3; use the other one"
    )


@pytest.mark.parametrize(("subject", "name", "begins"), USES)
def test_what_was_removed_is_refused_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Subject, name: str, begins: str
) -> None:
    install_user(tmp_path)
    registry = load(monkeypatch, tmp_path, deprecations(REFUSES, subject, name))
    sentence = f"uses the {subject} {name}, which was removed in hookline-core 0.3 (this is 0.3.0); use the other one"
    if begins.startswith("plugin"):
        (broken,) = registry.broken
        assert broken.reason == f"it {sentence}"
        assert [plugin.name for plugin in registry.plugins] == ["other"]
    else:
        offers = [*registry.offers(PoolerSpec), *registry.offers(AttentionBackendSpec)]
        refused = {offer.spec.name: offer.refused for offer in offers if offer.refused}
        assert refused == {begins.split("'")[1]: (sentence,)}


def test_a_hook_that_core_no_longer_has_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry outlives it: without one, the name would look like a slip."""
    install(tmp_path, "mine", "@hookimpl\ndef hookline_samplers():\n    return []\n")
    install(tmp_path, "other")
    (broken,) = load(monkeypatch, tmp_path, deprecations("0.5", "hook", "hookline_samplers")).broken
    assert "uses the hook hookline_samplers, which was removed in hookline-core 0.3 (this is 0.5); use" in str(broken)


def test_a_function_warns_its_caller_once_in_the_log_and_then_raises(caplog: pytest.LogCaptureFixture) -> None:
    entry = Deprecation(
        subject="function", name="hookline.text.old", since="0.2", removed="0.3", instead="call hookline.text.new"
    )

    def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    by_version = {
        version: deprecated(entry, Deprecations([entry], version=version))(double)
        for version in (BEFORE, WARNS, REFUSES)
    }
    assert by_version[BEFORE](2) == 4
    old = by_version[WARNS]
    assert old.__doc__ == "Twice the number."
    for _ in range(2):
        with pytest.warns(HooklineDeprecationWarning, match="call hookline.text.new") as caught:
            assert old(2) == 4
        assert caught[0].filename == __file__
    assert [record.getMessage() for record in caplog.records] == [
        f"{__name__} uses the function hookline.text.old, which is deprecated since hookline-core 0.2 and will be "
        "refused by 0.3; call hookline.text.new"
    ]
    with pytest.raises(PluginError, match=r"was removed in hookline-core 0\.3 \(this is 0\.3\.0\); call"):
        by_version[REFUSES](2)


@pytest.mark.parametrize("removed", ["0.2", "0.2.9", "0.1"])
def test_an_entry_must_warn_for_one_minor_release(removed: str) -> None:
    with pytest.raises(ValueError, match="must warn for one minor release"):
        Deprecation(subject="hook", name="hookline_x", since="0.2", removed=removed, instead="")


def test_a_major_release_may_remove_what_the_last_minor_deprecated() -> None:
    entry = Deprecation(subject="hook", name="hookline_x", since="0.9", removed="1.0", instead="")
    assert [
        (seen.find("hook", "hookline_x") is not None, seen.is_removed(entry))
        for seen in (Deprecations([entry], version=version) for version in ("0.8.5", "0.9.0", "0.9.7", "1.0.0"))
    ] == [(False, False), (True, False), (True, False), (True, True)]


def test_every_old_version_that_core_serves_has_an_end() -> None:
    listed = {entry.name for entry in DEPRECATIONS if entry.subject == "contract"}
    served = {
        f"{kind} {version}"
        for kind, spec_type in SPEC_TYPES.items()
        for version in range(spec_type.oldest_api_version, spec_type.current_api_version)
    }
    served |= {f"PluginInfo {n}" for n in range(contract.OLDEST_CONTRACT_VERSION, contract.CONTRACT_VERSION)}
    assert served - listed == set(), "name the release that ends it, and what authors must do, in DEPRECATIONS"
