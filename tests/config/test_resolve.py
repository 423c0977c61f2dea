"""resolve_engine: only "auto" is filled, each value has its reason, and conflicts are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hookline.config.device import DeviceFacts
from hookline.config.engine_plan import EnginePlan
from hookline.config.resolve import explain
from hookline.config.schema import HooklineConfig
from hookline.config.sources import load_config
from hookline.errors import ConfigError, HooklineError, ModelError, PluginError, ResolutionError
from hookline.plugins.manager import load_plugins
from tests.factories.distributions import write_checkpoint
from tests.factories.plugin_bench import PluginBench

H200 = DeviceFacts(has_cuda=True, capability=(9, 0), reason="a CUDA device is visible")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginBench:
    return PluginBench(tmp_path, monkeypatch)


def reasons(plan: EnginePlan) -> dict[str, tuple[str, str]]:
    return {path: (value, reason) for path, value, reason in plan.resolved}


def test_auto_values_are_filled_with_reasons(bench: PluginBench) -> None:
    plan = bench.resolve()
    config = plan.config
    assert (config.execution.device, config.model.dtype) == ("cpu", "float32")
    assert (config.cache.page_size, config.schedule.chunked_prefill_size) == (1, 2048)
    assert config.model.max_model_len == 512
    assert config.attention.attention_backend == "plain"
    assert (config.grammar.grammar_backend, config.output.reasoning_parser) == ("none", None)
    filled = reasons(plan)
    assert filled["model.dtype"] == ("float32", "float32 is the fastest and most exact on CPU")
    assert filled["execution.device"] == ("cpu", "a test")
    assert filled["attention.attention_backend"] == ("plain", "the only one that fits")
    assert all(reason for _, reason in filled.values())


def test_no_auto_is_left_but_what_a_worker_measures(bench: PluginBench) -> None:
    left = [
        f"{section}.{leaf}"
        for section, values in bench.resolve(for_server=True, api_families=[]).config_values.items()
        if isinstance(values, dict)
        for leaf, value in values.items()
        if value == "auto"
    ]
    assert left == ["model.moe_expert_layout", "multimodal.encoder_attention"]


def test_a_small_model_gets_one_thread_unless_the_user_says_otherwise(
    bench: PluginBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOKLINE__EXECUTION__CPU_THREADS", raising=False)
    plan = bench.resolve()
    assert plan.config.execution.cpu_threads == 1
    assert "hidden size" in reasons(plan)["execution.cpu_threads"][1]
    assert bench.resolve(cpu_threads=3).config.execution.cpu_threads == 3
    assert bench.resolve(facts=H200).config.execution.cpu_threads is None


def test_on_cuda_the_checkpoints_dtype_counts(bench: PluginBench) -> None:
    config = bench.resolve(facts=H200).config
    assert (config.execution.device, config.model.dtype, config.schedule.chunked_prefill_size) == (
        "cuda",
        "bfloat16",
        8192,
    )


EXPLICIT: list[dict[str, Any]] = [
    {"device": "cpu"},
    {"dtype": "bfloat16"},
    {"page_size": 16},
    {"chunked_prefill_size": None},
    {"chunked_prefill_size": 48},
    {"max_model_len": 100},
    {"attention_backend": "plain"},
    {"scheduler": "simple"},
    {"ops": []},
    {"grammar_backend": "none"},
    {"reasoning_parser": None},
    {"lora_backend": "none"},
    {"load_format": "dummy"},
]


@pytest.mark.parametrize("keywords", EXPLICIT, ids=lambda keywords: next(iter(keywords)))
def test_explicit_values_are_never_changed(bench: PluginBench, keywords: dict[str, Any]) -> None:
    ((leaf, value),) = keywords.items()
    plan = bench.resolve(**keywords)
    (found,) = [values[leaf] for values in plan.config_values.values() if isinstance(values, dict) and leaf in values]
    assert found == value
    assert leaf not in {path.split(".")[-1] for path in reasons(plan)}


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"device": "cuda"}, r"execution\.device is 'cuda', but a test; use 'cpu' or 'auto'"),
        ({"max_model_len": 513}, r"model\.max_model_len is 513, but the checkpoint was made for 512 tokens"),
        ({"page_size": 16, "chunked_prefill_size": 24}, r"must be a multiple of cache\.page_size \(16\), like 16"),
        ({"grammar_backend": "g", "skip_tokenizer_init": True}, r"there is no tokenizer to follow a grammar with"),
        ({"lora_backend": "none", "lora_adapters": {"a": "/x"}}, r"lora_backend is 'none', but lora\.lora_adapters"),
        ({"revision": "main"}, r"model\.revision is 'main', but '.*' is a directory"),
        ({"plugins": {"basis": {"x": 1}}}, r"fake-basis 1\.0 takes no options"),
    ],
)
def test_settings_that_conflict_are_errors(bench: PluginBench, keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        bench.resolve(**keywords)


def test_backend_that_needs_pages_decides_the_page_size(bench: PluginBench) -> None:
    bench.offer(
        "attention_backends",
        '[AttentionBackendSpec(name="paged", target="PACKAGE:A", priority=5, '
        "requires=Requirements(page_sizes=frozenset({16, 64})))]",
    )
    plan = bench.resolve()
    assert plan.config.cache.page_size == 16
    assert reasons(plan)["cache.page_size"] == ("16", "attention_backends 'paged' of fake-mine 1.0 needs pages")
    # An explicit page size decides the backend instead.
    plan = bench.resolve(page_size=1)
    assert plan.config.attention.attention_backend == "plain"
    assert plan.refusals["attention_backends"]["paged"] == ["handles page size 16 or 64, cache.page_size is 1"]


def test_requirements_see_device_dtype_and_head_dim(bench: PluginBench) -> None:
    bench.offer(
        "attention_backends",
        '[AttentionBackendSpec(name="fast", target="PACKAGE:A", priority=5, requires=Requirements('
        'devices=frozenset({"cuda"}), min_capability=(9, 0), dtypes=frozenset({"bfloat16"}), '
        "head_dims=frozenset({16})))]",
    )
    assert bench.resolve(facts=H200).config.attention.attention_backend == "fast"
    assert bench.resolve().config.attention.attention_backend == "plain"
    older = DeviceFacts(has_cuda=True, capability=(8, 0), reason="an older one")
    assert bench.resolve(facts=older).config.attention.attention_backend == "plain"
    with pytest.raises(ResolutionError) as info:
        bench.resolve(attention_backend="fast")
    assert "runs on cuda, the device is cpu; computes in bfloat16, the dtype is float32" in str(info.value)


@pytest.mark.parametrize(
    ("keywords", "config", "feature", "source"),
    [
        ({"enable_mixed_chunk": True}, {}, "mixed", "schedule.enable_mixed_chunk"),
        ({"deterministic": True}, {}, "deterministic", "execution.deterministic"),
        ({}, {"sliding_window": 64}, "mask.window", "the checkpoint's sliding window"),
    ],
)
def test_what_the_engine_needs_of_attention_is_refused_unless_declared(
    bench: PluginBench, keywords: dict[str, Any], config: dict[str, Any], feature: str, source: str
) -> None:
    write_checkpoint(bench.checkpoint, **config)
    with pytest.raises(ResolutionError, match=f"does not support '{feature}', which {source} needs"):
        bench.resolve(**keywords)
    bench.offer(
        "attention_backends",
        f'[AttentionBackendSpec(name="able", target="PACKAGE:A", features=frozenset({{"{feature}"}}))]',
    )
    assert bench.resolve(**keywords).config.attention.attention_backend == "able"


def test_named_op_sets_of_a_deterministic_engine_must_be_deterministic(bench: PluginBench) -> None:
    bench.offer(
        "attention_backends",
        '[AttentionBackendSpec(name="able", target="PACKAGE:A", features=frozenset({"deterministic"}))]',
    )
    bench.offer("ops", '[OpSetSpec(name="quick", target="PACKAGE:B", ops=frozenset({"linear"}))]', plugin="sets")
    with pytest.raises(ResolutionError, match=r"'quick' .*does not support 'deterministic', which"):
        bench.resolve(deterministic=True, ops=["quick"])
    # What is merely installed is passed over.
    assert not bench.resolve(deterministic=True).plugins.of_kind("ops")


def test_a_window_as_long_as_the_context_needs_nothing(bench: PluginBench) -> None:
    write_checkpoint(bench.checkpoint, sliding_window=64)
    assert bench.resolve(max_model_len=64).config.attention.attention_backend == "plain"


FAMILY = (
    '[ModelSpec(name="family", target="PACKAGE:M", architectures=("FamilyModel",), defaults='
    '{"output.reasoning_parser": "think", "schedule.max_prefill_tokens": 77, "output.tool_call_parser": "gone"})]'
)


def test_defaults_of_the_family_lie_below_files_and_above_built_ins(bench: PluginBench) -> None:
    bench.offer("models", FAMILY)
    bench.offer("reasoning_parsers", '[ReasoningParserSpec(name="think", target="PACKAGE:R")]', plugin="parsers")
    write_checkpoint(bench.checkpoint, "FamilyModel")
    plan = bench.resolve()
    assert plan.config.output.reasoning_parser == "think"
    assert plan.config.schedule.max_prefill_tokens == 77
    assert reasons(plan)["schedule.max_prefill_tokens"] == ("77", "default of the model family 'family'")
    # A suggestion that nobody here offers leaves the choice to resolution.
    assert plan.config.output.tool_call_parser is None
    explicit = bench.resolve(reasoning_parser=None, max_prefill_tokens=16384).config
    assert (explicit.output.reasoning_parser, explicit.schedule.max_prefill_tokens) == (None, 16384)


@pytest.mark.parametrize(
    ("defaults", "sentence"),
    [
        ('{"output.reasoning_parsr": "x"}', r"sets a default for 'output\.reasoning_parsr', which is no setting; did"),
        ('{"cache.page_size": "big"}', r"the defaults of model 'family' of fake-mine 1\.0 do not fit the schema"),
    ],
)
def test_wrong_defaults_of_a_family_name_the_distribution(bench: PluginBench, defaults: str, sentence: str) -> None:
    bench.offer(
        "models",
        f'[ModelSpec(name="family", target="PACKAGE:M", architectures=("FamilyModel",), defaults={defaults})]',
    )
    write_checkpoint(bench.checkpoint, "FamilyModel")
    with pytest.raises(PluginError, match=sentence):
        bench.resolve()


def test_unknown_architecture_names_the_known_ones_and_the_near_miss(bench: PluginBench) -> None:
    write_checkpoint(bench.checkpoint, "FakForCausalLM")
    with pytest.raises(ModelError) as info:
        bench.resolve()
    assert "unknown architecture 'FakForCausalLM'" in str(info.value)
    assert "did you mean 'FakeForCausalLM'? (known: FakeForCausalLM)" in str(info.value)


def test_quantised_weights_are_refused_before_anything_loads(bench: PluginBench) -> None:
    write_checkpoint(bench.checkpoint, quantization_config={"quant_method": "awq"})
    with pytest.raises(ModelError, match=r"are quantised \(awq\), and no plugin loads those"):
        bench.resolve()


def test_adapters_must_be_there_and_fit(bench: PluginBench, tmp_path: Path) -> None:
    bench.offer("lora_backends", '[LoRABackendSpec(name="deltas", target="PACKAGE:L")]')
    bench.offer(
        "models",
        '[ModelSpec(name="able", target="PACKAGE:M", architectures=("AbleModel",), features=frozenset({"lora"}))]',
        plugin="able",
    )
    write_checkpoint(bench.checkpoint, "AbleModel")
    with pytest.raises(ModelError, match=r"adapter 'a' of lora\.lora_adapters: there is no directory '/nowhere'"):
        bench.resolve(lora_adapters={"a": "/nowhere"})
    with pytest.raises(ConfigError, match=r"names 2 adapters, lora\.max_loras is 1; raise it"):
        bench.resolve(lora_adapters={"a": str(tmp_path), "b": str(tmp_path)}, max_loras=1)
    assert bench.resolve().config.lora.lora_backend == "deltas"


def test_a_required_kind_that_nobody_offers_is_an_error(bench: PluginBench) -> None:
    with pytest.raises(
        PluginError, match=r"unknown schedule policy 'lpm' \(known: fcfs\); .*pip install hookline-schedulers"
    ):
        bench.resolve(schedule_policy="lpm")


def test_the_plan_survives_the_wire(bench: PluginBench) -> None:
    plan = bench.resolve()
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(plan), type=EnginePlan)
    assert again == plan
    assert again.config == plan.config


def test_served_name_is_the_last_part_of_the_model(bench: PluginBench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.resolve().served_model_name == "checkpoint"
    assert bench.resolve(served_model_name="mine").served_model_name == "mine"
    monkeypatch.chdir(bench.checkpoint)
    assert bench.resolve(model=".").served_model_name == "checkpoint"


def test_explain_answers_without_a_model(bench: PluginBench) -> None:
    config = HooklineConfig()
    answer, problem = explain("attention_backends", config, load_plugins(config))
    assert answer.names == ("plain",)
    assert problem is not None
    assert "without a model" in problem


def test_explain_tells_every_reason_of_a_failed_choice(bench: PluginBench) -> None:
    bench.offer(
        "attention_backends",
        '[AttentionBackendSpec(name="fast", target="PACKAGE:A", requires=Requirements(devices=frozenset({"cuda"})))]',
    )
    config = load_config(environ={}, keywords={"model": str(bench.checkpoint), "attention_backend": "fast"}).config
    answer, problem = explain(
        "attention_backends", config, load_plugins(config), device=DeviceFacts(has_cuda=False, reason="")
    )
    assert answer.chosen == ()
    assert {refusal.offer.spec.name: refusal.reasons for refusal in answer.refusals} == {
        "fast": ("runs on cuda, the device is cpu",)
    }
    assert problem is not None
    assert "cannot be used" in problem


def test_explain_refuses_an_unknown_kind(bench: PluginBench) -> None:
    with pytest.raises(HooklineError, match="did you mean 'poolers'"):
        explain("pooler", HooklineConfig(), load_plugins())


def test_explain_knows_kinds_that_no_setting_names(bench: PluginBench) -> None:
    config = load_config(environ={}, keywords={"model": str(bench.checkpoint)}).config
    answer, problem = explain("checkpoint_sources", config, load_plugins(config))
    assert (answer.names, problem) == ((), None)


@pytest.mark.parametrize("written", [["able", "plain"], "able,plain"])
def test_two_attention_backends_are_for_prefills_and_decodes(bench: PluginBench, written: str | list[str]) -> None:
    bench.offer("attention_backends", '[AttentionBackendSpec(name="able", target="PACKAGE:A")]')
    plan = bench.resolve(attention_backend=written)
    assert [spec.name for spec in plan.plugins.of_kind("attention_backends")] == ["able", "plain"]


def test_more_than_two_attention_backends_or_two_of_a_deterministic_engine_are_refused(bench: PluginBench) -> None:
    with pytest.raises(ConfigError, match="the first for prefills and the second for decodes"):
        bench.resolve(attention_backend=["plain", "plain", "plain"])
    with pytest.raises(ConfigError, match="whether a prefill or a decode computes it"):
        bench.resolve(attention_backend=["plain", "other"], deterministic=True)
