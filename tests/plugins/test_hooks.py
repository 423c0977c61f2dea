"""One test per hook: what a plugin offers through it reaches the plan of an engine, under the rules of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.config.engine_plan import EnginePlan
from hookline.errors import PluginError, ResolutionError
from tests.factories.distributions import write_checkpoint
from tests.factories.plugin_bench import PluginBench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginBench:
    return PluginBench(tmp_path, monkeypatch)


def names(plan: EnginePlan, kind: str) -> list[str]:
    return [spec.name for spec in plan.plugins.of_kind(kind)]


def test_hook_models(bench: PluginBench) -> None:
    bench.offer("models", '[ModelSpec(name="other", target="PACKAGE:M", architectures=("OtherModel",))]')
    write_checkpoint(bench.checkpoint, "OtherModel")
    plan = bench.resolve()
    assert names(plan, "models") == ["other"]
    assert plan.refusals["models"] == {"fake": ["is for FakeForCausalLM"]}


def test_hook_models_of_one_architecture_need_a_preference(bench: PluginBench) -> None:
    bench.offer("models", '[ModelSpec(name="better", target="PACKAGE:M", architectures=("FakeForCausalLM",))]')
    with pytest.raises(PluginError, match=r"is offered by fake-mine 1\.0 and fake-basis 1\.0; say which one wins"):
        bench.resolve()
    plan = bench.resolve(prefer={"models.FakeForCausalLM": "fake-mine"})
    assert names(plan, "models") == ["better"]


SOURCE = """
from pathlib import Path
from hookline.interfaces.checkpoints import CheckpointSource

class Source(CheckpointSource):
    def locate(self, name, *, revision, offline):
        assert (name, revision, offline) == ("built-in", None, True)
        return Path({path!r})

    def adapters(self, name):
        return {{"pirate": Path({path!r})}}
"""


def test_hook_checkpoint_sources(bench: PluginBench) -> None:
    bench.offer(
        "checkpoint_sources",
        '[CheckpointSourceSpec(name="s", target="PACKAGE.source:Source", default="built-in", '
        'checkpoints=(("built-in", "a fake"),))]',
        source=SOURCE.format(path=str(bench.checkpoint)),
    )
    for named in ("built-in", None):
        plan = bench.resolve(model=named, offline=True)
        assert plan.model_path == str(bench.checkpoint)
        assert plan.served_model_name == "built-in"


def test_hook_poolers(bench: PluginBench) -> None:
    bench.offer(
        "poolers",
        '[PoolerSpec(name="mean", target="PACKAGE:P", needs_all_tokens=True), '
        'PoolerSpec(name="gpu", target="PACKAGE:P", requires=Requirements(devices=frozenset({"cuda"})))]',
    )
    plan = bench.resolve()
    assert names(plan, "poolers") == ["mean"]
    assert plan.plugins.one("poolers").details == {"needs_all_tokens": True}
    assert plan.refusals["poolers"] == {"gpu": ["runs on cuda, the device is cpu"]}


def test_hook_attention_backends(bench: PluginBench) -> None:
    bench.offer("attention_backends", '[AttentionBackendSpec(name="fast", target="PACKAGE:A", priority=3)]')
    plan = bench.resolve()
    assert names(plan, "attention_backends") == ["fast"]
    assert plan.config.attention.attention_backend == "fast"
    assert names(bench.resolve(attention_backend="plain"), "attention_backends") == ["plain"]


def test_hook_ops(bench: PluginBench) -> None:
    bench.offer(
        "ops",
        '[OpSetSpec(name="low", target="PACKAGE:o", ops=frozenset({"rotary"})), '
        'OpSetSpec(name="high", target="PACKAGE:o", priority=1)]',
    )
    plan = bench.resolve()
    assert plan.config.execution.ops == ["high", "low"] == names(plan, "ops")
    assert plan.plugins.named("ops", "low").details == {"ops": ["rotary"], "deterministic_target": ""}
    assert names(bench.resolve(ops=["low"]), "ops") == ["low"]
    assert names(bench.resolve(ops=[]), "ops") == []


def test_hook_lora_backends(bench: PluginBench) -> None:
    bench.offer("lora_backends", '[LoRABackendSpec(name="deltas", target="PACKAGE:L")]')
    # The model of the basis declares no adapters, so the backend is not even loaded ...
    assert names(bench.resolve(), "lora_backends") == []
    # ... and asking for adapters is refused.
    with pytest.raises(ResolutionError, match=r"does not support 'lora', which lora\.lora_adapters needs"):
        bench.resolve(lora_adapters={"a": str(bench.checkpoint)})
    bench.offer(
        "models",
        '[ModelSpec(name="able", target="PACKAGE:M", architectures=("AbleModel",), features=frozenset({"lora"}))]',
        plugin="able",
    )
    write_checkpoint(bench.checkpoint, "AbleModel")
    plan = bench.resolve(lora_adapters={"a": str(bench.checkpoint)})
    assert names(plan, "lora_backends") == ["deltas"]
    assert plan.adapters == {"a": str(bench.checkpoint)}


def test_hook_logits_processors(bench: PluginBench) -> None:
    bench.offer("logits_processors", '[LogitsProcessorSpec(name=n, target="PACKAGE:L") for n in ("b", "a")]')
    assert names(bench.resolve(), "logits_processors") == ["a", "b"]


def test_hook_schedulers(bench: PluginBench) -> None:
    bench.offer("schedulers", '[SchedulerSpec(name="other", target="PACKAGE:S", priority=-1)]')
    assert names(bench.resolve(), "schedulers") == ["simple"]
    assert names(bench.resolve(scheduler="other"), "schedulers") == ["other"]


def test_hook_schedule_policies(bench: PluginBench) -> None:
    bench.offer("schedule_policies", '[SchedulePolicySpec(name="lpm", target="PACKAGE:P", priority=9)]')
    # The policy is named by the schema's default, so a priority does not replace it.
    assert names(bench.resolve(), "schedule_policies") == ["fcfs"]
    assert names(bench.resolve(schedule_policy="lpm"), "schedule_policies") == ["lpm"]


def test_hook_grammar_backends(bench: PluginBench) -> None:
    assert names(bench.resolve(), "grammar_backends") == []
    bench.offer("grammar_backends", '[GrammarBackendSpec(name="g", target="PACKAGE:G", kinds=frozenset({"regex"}))]')
    plan = bench.resolve()
    assert plan.plugins.one("grammar_backends").details == {"kinds": ["regex"], "quick_kinds": []}
    assert names(bench.resolve(grammar_backend="none"), "grammar_backends") == []
    assert names(bench.resolve(skip_tokenizer_init=True), "grammar_backends") == []


def test_hook_reasoning_parsers(bench: PluginBench) -> None:
    bench.offer(
        "reasoning_parsers",
        '[ReasoningParserSpec(name="think", target="PACKAGE:R", template_markers=("<think>", "</think>"))]',
    )
    plan = bench.resolve()
    assert names(plan, "reasoning_parsers") == []
    assert plan.refusals["reasoning_parsers"]["think"] == ["the chat template does not hold '<think>'"]
    (bench.checkpoint / "chat_template.jinja").write_text("<think>{{ messages }}</think>")
    assert names(bench.resolve(), "reasoning_parsers") == ["think"]
    assert names(bench.resolve(reasoning_parser=None), "reasoning_parsers") == []


def test_hook_function_call_parsers(bench: PluginBench) -> None:
    bench.offer(
        "function_call_parsers", '[FunctionCallParserSpec(name=n, target="PACKAGE:F") for n in ("mine", "other")]'
    )
    plan = bench.resolve()
    assert names(plan, "function_call_parsers") == []
    assert "must be named" in plan.refusals["function_call_parsers"]["mine"][0]
    assert names(bench.resolve(tool_call_parser="other"), "function_call_parsers") == ["other"]


def test_hook_api_families(bench: PluginBench) -> None:
    bench.offer(
        "api_families",
        '[ApiFamilySpec(name="native", target="PACKAGE:N", paths=("/a",)), '
        'ApiFamilySpec(name="openai", target="PACKAGE:O", paths=("/b",)), '
        'ApiFamilySpec(name="responses", target="PACKAGE:R", paths=("/c",)), '
        'ApiFamilySpec(name="anthropic", target="PACKAGE:A", paths=("/d",)), '
        'ApiFamilySpec(name="extra", target="PACKAGE:E", paths=("/a",))]',
    )
    # An engine without a server has none, and a family that is not listed stays off.
    assert names(bench.resolve(), "api_families") == []
    assert names(bench.resolve(for_server=True), "api_families") == ["native", "openai", "responses", "anthropic"]
    assert names(bench.resolve(for_server=True, api_families=["extra"]), "api_families") == ["extra"]
    with pytest.raises(ResolutionError, match=r"route '/a' is served by api_families 'native' of fake-mine 1\.0 and"):
        bench.resolve(for_server=True, api_families=["native", "extra"])
