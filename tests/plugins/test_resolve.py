"""Resolution: who is chosen, why the others are not, and what choices impose on each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.errors import PluginError, ResolutionError
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.grammar import GrammarBackendSpec
from hookline.interfaces.kernels import OpSetSpec
from hookline.interfaces.scheduling import SchedulerSpec
from hookline.interfaces.spec import Requirements
from hookline.plugins.context import Context
from hookline.plugins.resolve import Resolution, Wish, choose, resolve, resolve_together, resolve_wish
from tests.factories.offers import registry_of

CPU = Context(device="cpu")
CUDA_ONLY = Requirements(devices=frozenset({"cuda"}))


def attention(name: str, **fields: Any) -> AttentionBackendSpec:
    return AttentionBackendSpec(name=name, target="a:b", **fields)


def scheduler(name: str, **fields: Any) -> SchedulerSpec:
    return SchedulerSpec(name=name, target="a:b", **fields)


def reasons(answer: Resolution) -> dict[str, tuple[str, ...]]:
    return {refusal.offer.spec.name: refusal.reasons for refusal in answer.refusals}


def test_auto_takes_the_best_that_fits_and_keeps_every_refusal() -> None:
    registry = registry_of(
        attention("fast", priority=10, requires=CUDA_ONLY), attention("good", priority=5), attention("plain")
    )
    answer = resolve(registry, "attention_backends", "auto", CPU)
    assert answer.names == ("good",)
    assert [offer.spec.name for offer in answer.spare] == ["plain"]
    assert reasons(answer) == {"fast": ("runs on cuda, the device is cpu",)}
    assert answer.reason == "the best that fits, by priority"


def test_named_choice_is_taken_over_better_ones() -> None:
    registry = registry_of(attention("good", priority=5), attention("plain"))
    answer = resolve(registry, "attention_backends", "plain", CPU)
    assert answer.names == ("plain",)
    assert answer.reason == "named by attention_backends"


def test_named_choice_that_does_not_fit_is_an_error_with_all_reasons() -> None:
    requires = Requirements(devices=frozenset({"cuda"}), packages=("no-such-package",))
    registry = registry_of(attention("fast", requires=requires), attention("plain"))
    with pytest.raises(ResolutionError) as info:
        resolve(registry, "attention_backends", "fast", CPU)
    assert str(info.value) == (
        "attention_backends 'fast' of fake-mine 1.0, named by attention_backends, cannot be used: runs on cuda, the "
        "device is cpu; needs the package no-such-package, which is not installed; what fits: plain; 'fast' "
        "takes a machine with cuda, or --device cuda where it has one, and pip install 'no-such-package'"
    )
    assert len(info.value.refusals["fast"]) == 2


def test_auto_without_any_fit_lists_every_candidate() -> None:
    registry = registry_of(attention("a", requires=CUDA_ONLY), attention("b", api_version=9))
    with pytest.raises(ResolutionError) as info:
        resolve(registry, "attention_backends", "auto", CPU)
    assert set(info.value.refusals) == {"a", "b"}
    assert "\n  a of fake-mine 1.0: runs on cuda" in str(info.value)
    assert "\n  b of fake-mine 1.0: was written for version 9 of attention_backends, this core speaks 1" in str(
        info.value
    )


def test_auto_without_any_offer_says_so() -> None:
    with pytest.raises(ResolutionError, match="no plugin offers attention_backends"):
        resolve(registry_of(), "attention_backends", "auto", CPU)


def test_unknown_name_is_an_error_even_where_nothing_is_required() -> None:
    with pytest.raises(PluginError, match="did you mean 'plain'"):
        resolve_wish(
            registry_of(attention("plain")), Wish(kind="attention_backends", names=("plan",), required=False), CPU
        )


def test_old_api_version_asks_to_upgrade_the_plugin_and_new_one_the_core() -> None:
    registry = registry_of(attention("old", api_version=0), attention("new", api_version=2), attention("now"))
    answer = resolve(registry, "attention_backends", "auto", CPU)
    assert "upgrade fake-mine" in reasons(answer)["old"][0]
    assert "upgrade hookline-core" in reasons(answer)["new"][0]


def test_features_are_refused_unless_declared() -> None:
    registry = registry_of(attention("silent", priority=9), attention("able", features=frozenset({"mixed"})))
    wish = Wish(kind="attention_backends", features={"mixed": "schedule.enable_mixed_chunk"})
    answer = resolve_wish(registry, wish, CPU)
    assert answer.names == ("able",)
    assert reasons(answer) == {"silent": ("does not support 'mixed', which schedule.enable_mixed_chunk needs",)}


def test_many_takes_all_that_fit_in_order() -> None:
    sets = [OpSetSpec(name=name, target="a:b", priority=rank) for name, rank in (("low", -1), ("high", 3), ("mid", 0))]
    registry = registry_of(*sets, OpSetSpec(name="gpu", target="a:b", requires=CUDA_ONLY))
    answer = resolve_wish(registry, Wish(kind="ops", many=True, required=False), CPU)
    assert answer.names == ("high", "mid", "low")
    named = resolve_wish(registry, Wish(kind="ops", names=("low", "high"), many=True), CPU)
    assert named.names == ("low", "high")


def test_none_is_wanted() -> None:
    answer = resolve_wish(registry_of(attention("x")), Wish(kind="attention_backends", names=()), CPU)
    assert (answer.names, answer.reason) == ((), "none is wanted")


TREE = {"attention_backends": frozenset({"mask.tree"})}
BOTH = (Wish(kind="attention_backends"), Wish(kind="schedulers"))


def test_imposed_features_change_the_choice_and_name_who_imposed_them() -> None:
    registry = registry_of(
        attention("plain", priority=5),
        attention("trees", features=frozenset({"mask.tree"})),
        scheduler("clever", imposes=TREE),
    )
    answers = resolve_together(registry, BOTH, CPU)
    assert answers["attention_backends"].names == ("trees",)
    assert reasons(answers["attention_backends"])["plain"] == (
        "does not support 'mask.tree', which schedulers 'clever' of fake-mine 1.0 needs",
    )


def test_demands_travel_in_steps_until_stable() -> None:
    registry = registry_of(
        attention("plain", priority=5),
        attention("trees", features=frozenset({"mask.tree"}), imposes={"ops": frozenset({"tree_ops"})}),
        scheduler("clever", imposes=TREE),
        OpSetSpec(name="fast", target="a:b", priority=9),
        OpSetSpec(name="trees", target="a:b", features=frozenset({"tree_ops"})),
    )
    answers = resolve_together(registry, (*BOTH, Wish(kind="ops", many=True, required=False)), CPU)
    assert answers["ops"].names == ("trees",)


def test_an_auto_choice_whose_demand_nobody_meets_gives_way() -> None:
    registry = registry_of(attention("plain"), scheduler("clever", priority=9, imposes=TREE), scheduler("simple"))
    answers = resolve_together(registry, BOTH, CPU)
    assert answers["schedulers"].names == ("simple",)
    assert reasons(answers["schedulers"])["clever"] == (
        "imposes 'mask.tree' on attention_backends, and no candidate there supports it",
    )
    assert answers["attention_backends"].names == ("plain",)


def test_a_named_choice_whose_demand_nobody_meets_is_an_error() -> None:
    registry = registry_of(attention("plain"), scheduler("clever", imposes=TREE), scheduler("simple"))
    wishes = (BOTH[0], Wish(kind="schedulers", names=("clever",), setting="schedule.scheduler"))
    with pytest.raises(ResolutionError, match=r"'mask\.tree', which schedulers 'clever' of fake-mine 1\.0 needs"):
        resolve_together(registry, wishes, CPU)


def test_two_named_choices_that_conflict_are_an_error() -> None:
    registry = registry_of(
        attention("plain"), attention("trees", features=frozenset({"mask.tree"})), scheduler("clever", imposes=TREE)
    )
    wishes = (Wish(kind="attention_backends", names=("plain",)), Wish(kind="schedulers", names=("clever",)))
    with pytest.raises(ResolutionError, match=r"'plain' of fake-mine 1\.0 cannot be used.*what fits: trees"):
        resolve_together(registry, wishes, CPU)


def test_demands_on_a_kind_that_is_switched_off_are_an_error() -> None:
    registry = registry_of(
        scheduler("clever", imposes={"grammar_backends": frozenset({"rollback"})}),
        GrammarBackendSpec(name="g", target="a:b", features=frozenset({"rollback"})),
    )
    wishes = (
        Wish(kind="schedulers", names=("clever",)),
        Wish(kind="grammar_backends", names=(), setting="grammar.grammar_backend", required=False),
    )
    with pytest.raises(ResolutionError, match=r"grammar_backend says that none is wanted, but schedulers 'clever'"):
        resolve_together(registry, wishes, CPU)


def test_choices_that_never_settle_are_an_error() -> None:
    registry = registry_of(
        attention("a", priority=5, imposes={"schedulers": frozenset({"s"})}),
        attention("b", features=frozenset({"t"})),
        scheduler("plain", priority=5),
        scheduler("able", features=frozenset({"s"}), imposes={"attention_backends": frozenset({"t"})}),
    )
    with pytest.raises(ResolutionError, match="does not settle"):
        resolve_together(registry, BOTH, CPU)


FEATURES = st.frozensets(st.sampled_from(["f", "g", "h"]), max_size=2)


@given(
    backends=st.lists(st.tuples(FEATURES, FEATURES, st.integers(0, 2)), min_size=1, max_size=4),
    schedulers=st.lists(st.tuples(FEATURES, FEATURES, st.integers(0, 2)), min_size=1, max_size=4),
)
def test_whatever_is_chosen_meets_every_demand(
    backends: list[tuple[frozenset[str], frozenset[str], int]],
    schedulers: list[tuple[frozenset[str], frozenset[str], int]],
) -> None:
    registry = registry_of(
        *(
            attention(f"a{index}", features=has, imposes={"schedulers": wants} if wants else {}, priority=rank)
            for index, (has, wants, rank) in enumerate(backends)
        ),
        *(
            scheduler(f"s{index}", features=has, imposes={"attention_backends": wants} if wants else {}, priority=rank)
            for index, (has, wants, rank) in enumerate(schedulers)
        ),
    )
    try:
        answers = resolve_together(registry, BOTH, CPU)
    except ResolutionError:
        return
    (backend,) = answers["attention_backends"].chosen
    (chosen,) = answers["schedulers"].chosen
    assert chosen.spec.imposes.get("attention_backends", frozenset()) <= backend.spec.features
    assert backend.spec.imposes.get("schedulers", frozenset()) <= chosen.spec.features


def test_a_choice_carries_the_fields_of_its_kind_as_plain_values() -> None:
    spec = GrammarBackendSpec(
        name="g", target="a:b", kinds=frozenset({"regex", "ebnf"}), features=frozenset({"rollback"}), summary="s"
    )
    (offer,) = registry_of(spec).offers(GrammarBackendSpec)
    chosen = choose(offer)
    assert chosen.details == {"kinds": ["ebnf", "regex"], "quick_kinds": []}
    assert (chosen.kind, chosen.name, chosen.features) == ("grammar_backends", "g", ["rollback"])
    assert (chosen.distribution, chosen.version, chosen.plugin) == ("fake-mine", "1.0", "mine")
