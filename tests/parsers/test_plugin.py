from __future__ import annotations

import importlib

import pluggy

from hookline.interfaces.parsers import FunctionCallParser, ReasoningContext, ReasoningParser
from hookline.interfaces.spec import Spec
from hookline.plugins import hookspecs


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


def test_hook_hookline_reasoning_parsers() -> None:
    (spec,) = _offers("hookline_reasoning_parsers")
    assert spec.name == "think"
    target = _load(spec)
    assert issubclass(target, ReasoningParser)
    delta = target(ReasoningContext(prompt_tail="", template_kwargs={})).feed("<think>a</think>b")
    assert (delta.reasoning, delta.content) == ("a", "b")


def test_hook_hookline_function_call_parsers() -> None:
    (spec,) = _offers("hookline_function_call_parsers")
    assert spec.name == "qwen25"
    target = _load(spec)
    assert issubclass(target, FunctionCallParser)
    (call,) = target([]).feed('<tool_call>{"name": "f", "arguments": {}}</tool_call>').calls
    assert (call.name, call.arguments) == ("f", "{}")
