"""Kinds: what `hookline plugins new --kind` takes, and what differs between their distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hookline.errors import PluginError
from hookline.plugins.names import unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaffoldKind:
    """One kind of plugin that can be begun."""

    #: As in ``--kind``; also the folder of its templates.
    name: str
    #: Kinds of offers that its plugin makes.
    offers: tuple[str, ...]
    #: For messages and the README: "schedule policy".
    noun: str
    #: Where the obligations of an implementation are written: "hookline.interfaces.scheduling.SchedulePolicy".
    contracts: tuple[str, ...]
    #: Modules of the testkit with the suites.
    suites: tuple[str, ...]
    #: Extras of hookline-core that the plugin itself needs.
    core_extras: tuple[str, ...] = ()
    #: Distributions of ours that its tests use, found through the registry.
    tested_with: tuple[str, ...] = ()

    @property
    def article(self) -> str:
        return "an" if self.noun[0] in "aeioAEIO" else "a"


KINDS: Mapping[str, ScaffoldKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            ScaffoldKind(
                name="attention",
                offers=("attention_backends",),
                noun="attention backend",
                contracts=("hookline.interfaces.attention.AttentionBackend",),
                suites=("hookline.testkit.attention",),
            ),
            ScaffoldKind(
                name="model",
                offers=("models",),
                noun="model",
                contracts=("hookline.layers.model.Model",),
                suites=("hookline.testkit.models",),
                tested_with=("hookline-attention", "hookline-lora", "hookline-schedulers"),
            ),
            ScaffoldKind(
                name="ops",
                offers=("ops",),
                noun="op set",
                contracts=("hookline.interfaces.kernels.OpSetSpec", "hookline.layers.ops"),
                suites=("hookline.testkit.ops",),
            ),
            ScaffoldKind(
                name="scheduler",
                offers=("schedulers",),
                noun="scheduler",
                contracts=("hookline.interfaces.scheduling.BatchScheduler",),
                suites=("hookline.testkit.schedulers",),
            ),
            ScaffoldKind(
                name="policy",
                offers=("schedule_policies",),
                noun="schedule policy",
                contracts=("hookline.interfaces.scheduling.SchedulePolicy",),
                suites=("hookline.testkit.policies",),
                tested_with=("hookline-schedulers",),
            ),
            ScaffoldKind(
                name="parser",
                offers=("reasoning_parsers", "function_call_parsers"),
                noun="parser of reasoning and of function calls",
                contracts=(
                    "hookline.interfaces.parsers.ReasoningParser",
                    "hookline.interfaces.parsers.FunctionCallParser",
                ),
                suites=("hookline.testkit.parsers",),
            ),
            ScaffoldKind(
                name="grammar",
                offers=("grammar_backends",),
                noun="grammar backend",
                contracts=("hookline.interfaces.grammar.GrammarBackend",),
                suites=("hookline.testkit.grammar",),
            ),
            ScaffoldKind(
                name="pooler",
                offers=("poolers",),
                noun="pooler",
                contracts=("hookline.interfaces.pooling.Pooler",),
                suites=("hookline.testkit.poolers",),
            ),
            ScaffoldKind(
                name="lora",
                offers=("lora_backends",),
                noun="LoRA backend",
                contracts=("hookline.interfaces.lora.LoRABackend",),
                suites=("hookline.testkit.lora",),
            ),
            ScaffoldKind(
                name="api",
                offers=("api_families",),
                noun="API family",
                contracts=("hookline.interfaces.api.ApiFamily",),
                suites=("hookline.testkit.api_families",),
                core_extras=("server",),
            ),
            ScaffoldKind(
                name="logits-processor",
                offers=("logits_processors",),
                noun="logits processor",
                contracts=("hookline.interfaces.logits.LogitsProcessor",),
                suites=("hookline.testkit.logits_processors",),
            ),
        )
    }
)


def kind_of(name: str) -> ScaffoldKind:
    """The kind that ``--kind`` names; ``PluginError`` with the near miss and all kinds for an unknown one.

    The name of a kind of offers ("schedule_policies") is not a kind of plugin, but says which one is meant.
    """
    kind = KINDS.get(name)
    if kind is not None:
        return kind
    for kind in KINDS.values():
        if name.replace("-", "_") in (*kind.offers, *(offer.removesuffix("s") for offer in kind.offers)):
            raise PluginError(
                f"unknown kind of plugin '{name}'; did you mean '{kind.name}'? (known: {', '.join(sorted(KINDS))})"
            )
    raise PluginError(unknown_name("kind of plugin", name, KINDS))
