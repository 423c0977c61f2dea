from __future__ import annotations

import importlib

import pluggy
import pytest

from hookline.interfaces.parsers import (
    FunctionCallParser,
    FunctionCallParserSpec,
    ReasoningContext,
    ReasoningParser,
    ReasoningParserSpec,
)
from hookline.interfaces.spec import Spec
from hookline.plugins import hookspecs
from tests.parsers.formats import FORMATS


def _offers(hook: str) -> list[Spec]:
    manager = pluggy.PluginManager("hookline")
    manager.add_hookspecs(hookspecs)
    manager.register(importlib.import_module("hookline_parsers.plugin"))
    manager.check_pending()
    return [spec for offer in getattr(manager.hook, hook)() for spec in offer]


def _load(spec: Spec) -> type:
    module, _, attribute = spec.target.partition(":")
    loaded = getattr(importlib.import_module(module), attribute)
    assert isinstance(loaded, type)
    return loaded


def _taken(hook: str, template: str) -> list[str]:
    """The best offers for a chat template; ``auto`` takes the first, so there must not be two."""
    fitting = []
    for spec in _offers(hook):
        assert isinstance(spec, (ReasoningParserSpec, FunctionCallParserSpec))
        if spec.template_markers and all(marker in template for marker in spec.template_markers):
            fitting.append((spec.priority, spec.name))
    return [name for priority, name in fitting if priority == max(fitting)[0]]


def test_hook_hookline_reasoning_parsers() -> None:
    specs = {spec.name: _load(spec) for spec in _offers("hookline_reasoning_parsers")}
    assert all(issubclass(target, ReasoningParser) for target in specs.values())
    families = "deepseek-r1 deepseek-v3 qwen3 qwen3-thinking glm45 kimi kimi_k2 step3 interns1 minimax gpt-oss think"
    assert set(specs) == set(families.split())
    delta = specs["think"](ReasoningContext(prompt_tail="", template_kwargs={})).feed("<think>a</think>b")
    assert (delta.reasoning, delta.content) == ("a", "b")


def test_hook_hookline_function_call_parsers() -> None:
    specs = {spec.name: _load(spec) for spec in _offers("hookline_function_call_parsers")}
    assert all(issubclass(target, FunctionCallParser) for target in specs.values())
    assert set(specs) == {form.parser for form in FORMATS}
    (call,) = specs["qwen25"]([]).feed('<tool_call>{"name": "f", "arguments": {}}</tool_call>').calls
    assert (call.name, call.arguments) == ("f", "{}")


@pytest.mark.parametrize(
    ("template", "reasoning", "calls"),
    [
        ('<tool_call>\\n{"name": "f", "arguments": {}}\\n</tool_call>', [], ["qwen25"]),
        ('<think></think><tool_call>\\n{\\"name\\": \\"f\\", \\"arguments\\": {}}', ["think"], ["qwen25"]),
        ("<tool_call>\\n<function=f>\\n<parameter=a>", [], ["qwen3_coder"]),
        ("<think></think><tool_call>f\\n<arg_key>a</arg_key>\\n<arg_value>1</arg_value>", ["think"], ["glm45"]),
        ("'<｜tool▁calls▁begin｜>function<｜tool▁sep｜>' + '```json'", [], ["deepseekv3"]),
        ("<think></think><｜tool▁calls▁begin｜>f<｜tool▁sep｜>", ["think"], ["deepseekv31"]),
        ("<think></think>[TOOL_CALLS] [", ["think"], ["mistral"]),
        ("[TOOL_CALLS]f[ARGS]", [], ["mistral-compact"]),
        (
            "<think></think><|tool_calls_section_begin|><|tool_call_argument_begin|>",
            ["kimi_k2"],
            ["kimi_k2"],
        ),
        ("<|start|>assistant<|channel|>analysis<|message|> to=functions.f", ["gpt-oss"], ["gpt-oss"]),
        ("<|im_start|>assistant", [], []),
    ],
)
def test_auto_reads_the_template(template: str, reasoning: list[str], calls: list[str]) -> None:
    assert _taken("hookline_reasoning_parsers", template) == reasoning
    assert _taken("hookline_function_call_parsers", template) == calls
