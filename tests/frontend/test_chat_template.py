"""Chat templates, compared with transformers' apply_chat_template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from packaging.version import Version
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hookline.errors import ConfigError, RequestError
from hookline.frontend.chat_template import ChatTemplate, ChatTemplates
from tests.factories.chat_templates import CHATML, PARTS, TEMPLATES, TOOLS

_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place, in °C <now>",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
_USER = {"role": "user", "content": "  Grüß 'Gott' & <b>\n"}
_TURNS = [_USER, {"role": "assistant", "content": "Hi there. "}, {"role": "user", "content": "And?"}]
_SYSTEM = {"role": "system", "content": " Be brief. "}
_THOUGHT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}
_CALLS: list[dict[str, Any]] = [
    _SYSTEM,
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"place": "Köln"}}},
            {"id": "2", "type": "function", "function": {"name": "weather", "arguments": {}}},
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": '{"t": 3}'},
    {"role": "tool", "tool_call_id": "2", "content": "none"},
]
_CHATS: dict[str, list[dict[str, Any]]] = {
    "one": [_USER],
    "turns": _TURNS,
    "system": [_SYSTEM, *_TURNS],
    "thoughts": [_USER, _THOUGHT, {"role": "user", "content": "More"}, _THOUGHT],
    "reasoning": [_USER, {"role": "assistant", "content": "A", "reasoning_content": "why"}],
    "reasoning_alias": [_USER, {"role": "assistant", "content": "A", "reasoning": "why"}],
    "rare_roles": [{"role": "skip", "content": "x"}, _USER, {"role": "stop", "content": "x"}, _USER],
}


def _theirs(source: str) -> Any:
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=Tokenizer(models.BPE()), chat_template=source, **_TOKENS)


def _ours(source: str) -> ChatTemplate:
    return ChatTemplate(source, name="test", special_tokens=_TOKENS)


def _both(source: str, messages: list[dict[str, Any]], **kwargs: Any) -> tuple[str, str]:
    """(ours, transformers'), or the same word twice if both refuse."""
    ours: str
    theirs: str
    try:
        theirs = str(_theirs(source).apply_chat_template(messages, tokenize=False, **kwargs))
    except Exception:
        theirs = "refused"
    tools = kwargs.pop("tools", None)
    known = {key: kwargs.pop(key) for key in ("add_generation_prompt", "continue_final_message") if key in kwargs}
    known.setdefault("add_generation_prompt", False)
    try:
        ours = _ours(source).render(messages, tools=tools or (), template_kwargs=kwargs, **known)
    except RequestError:
        ours = "refused"
    return ours, theirs


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("chat", _CHATS)
@pytest.mark.parametrize("prompt", [False, True])
def test_rendering_equals_transformers(template: str, chat: str, prompt: bool) -> None:
    if chat == "reasoning_alias" and Version(transformers.__version__) < Version("5.23"):
        pytest.skip("5.17 does not know the alias; 5.23 does")
    ours, theirs = _both(TEMPLATES[template], _CHATS[chat], add_generation_prompt=prompt)
    assert ours == theirs


@pytest.mark.parametrize("tools", [[], [_WEATHER], [_WEATHER, _WEATHER]])
def test_tools_equal_transformers(tools: list[dict[str, Any]]) -> None:
    ours, theirs = _both(TOOLS, _CALLS, tools=tools or None, add_generation_prompt=True)
    assert ours == theirs
    assert "refused" not in ours


@pytest.mark.parametrize("value", [True, False])
def test_template_kwargs_equal_transformers(value: bool) -> None:
    ours, theirs = _both(TEMPLATES["reasoning"], _TURNS, add_generation_prompt=True, enable_thinking=value)
    assert ours == theirs
    assert ("<think>" in ours) is not value


@pytest.mark.parametrize("template", ["chatml", "tools", "strict", "parts", "reasoning"])
@pytest.mark.parametrize("final", ["The answer is", "The answer is ", " padded\n", "two\nlines"])
def test_continued_message_equals_transformers(template: str, final: str) -> None:
    messages = [_USER, {"role": "assistant", "content": final}]
    ours, theirs = _both(TEMPLATES[template], messages, continue_final_message=True)
    assert ours == theirs
    assert ours.rstrip().endswith(final.rstrip())


def test_content_parts_given_to_a_template_that_takes_them() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    ours, theirs = _both(PARTS, [{"role": "user", "content": parts}], add_generation_prompt=True)
    assert ours == theirs == "<user>ab</user><assistant>"


def test_a_macro_may_walk_over_the_parts() -> None:
    source = (
        "{% macro text(content) %}{% if content is string %}{{ content }}{% else %}{% for part in content %}"
        "{{ part.text }}|{% endfor %}{% endif %}{% endmacro %}"
        "{% for message in messages %}{{ text(message.content) }}{% endfor %}"
    )
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    ours, theirs = _both(source, [{"role": "user", "content": parts}])
    assert ours == theirs == "a|b|"
    # A macro that walks over something else says nothing of contents.
    assert not _ours(source.replace("message.content", "message.names")).takes_content_parts


def test_content_parts_are_joined_for_a_template_that_takes_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert _ours(CHATML).render([{"role": "user", "content": parts}]) == (
        "<|im_start|>user\na b<|im_end|>\n<|im_start|>assistant\n"
    )


def test_continued_content_parts_end_in_the_last_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b "}]
    rendered = _ours(PARTS).render([{"role": "assistant", "content": parts}], continue_final_message=True)
    assert rendered == "<assistant>ab "


def test_developer_is_system_where_the_template_does_not_know_it() -> None:
    message = {"role": "developer", "content": "x"}
    assert "<|im_start|>system" in _ours(CHATML).render([message])
    aware = "{% if messages[0].role == 'developer' %}yes{% endif %}"
    assert _ours(aware).render([message]) == "yes"


def test_arguments_of_tool_calls_become_objects() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, null]}'}}
    rendered = _ours(TOOLS).render([_USER, {"role": "assistant", "tool_calls": [call]}])
    assert '"arguments": {"a": [1, null]}' in rendered


def test_rendering_leaves_the_messages_alone() -> None:
    source = "{% for m in messages %}{% if m.update({'x': 1}) %}{% endif %}{% endfor %}"
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}], "tool_calls": None}]
    before = json.dumps(messages)
    with pytest.raises(RequestError):
        _ours(source).render(messages)
    _ours(PARTS).render(messages, continue_final_message=True)
    assert json.dumps(messages) == before


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% for m in messages %}{{ m.clear() }}{% endfor %}",
        "{{ raise_exception('not today') }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content }}",
        "{{ undefined_name.attribute }}",
    ],
)
def test_failing_template_fails_the_request(source: str) -> None:
    with pytest.raises(RequestError, match="template"):
        _ours(source).render([_USER])


@pytest.mark.parametrize(
    ("messages", "word"),
    [
        ([], "at least one"),
        ("hello", "list"),
        ([3], r"messages\[0\]"),
        ([{"content": "x"}], r"messages\[0\]\.role"),
        ([_USER, {"role": 7, "content": "x"}], r"messages\[1\]\.role"),
        ([{"role": "user", "content": 5}], r"messages\[0\]\.content"),
        ([{"role": "user", "content": [{"text": "x"}]}], r"content\[0\]"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "text only"),
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], "text only"),
        ([{"role": "assistant", "tool_calls": "x"}], "tool_calls"),
        ([{"role": "assistant", "tool_calls": [{"id": "1"}]}], "function"),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "valid JSON"),
    ],
)
def test_malformed_messages_are_named(messages: Any, word: str) -> None:
    with pytest.raises(RequestError, match=word) as caught:
        _ours(CHATML).render(messages)
    assert caught.value.status_code == 400
    assert caught.value.param == "messages"


def test_reserved_template_kwargs_are_refused() -> None:
    with pytest.raises(RequestError, match="must not set messages"):
        _ours(CHATML).render([_USER], template_kwargs={"messages": []})


@pytest.mark.parametrize("content", ["", None, []])
def test_nothing_to_continue_is_refused(content: Any) -> None:
    with pytest.raises(RequestError, match="needs text"):
        _ours(CHATML).render([{"role": "assistant", "content": content}], continue_final_message=True)


def test_template_that_drops_the_continued_text_is_refused() -> None:
    with pytest.raises(RequestError, match="drops"):
        _ours("{{ messages[0].content[:2] }}").render([_USER], continue_final_message=True)


def test_template_that_does_not_compile_is_a_start_up_error(tmp_path: Path) -> None:
    file = tmp_path / "broken.jinja"
    file.write_text("{% for %}")
    with pytest.raises(ConfigError, match=r"broken\.jinja.*line 1"):
        ChatTemplates.load(tmp_path, special_tokens={}, override=str(file))
    with pytest.raises(ConfigError, match="cannot read"):
        ChatTemplates.load(tmp_path, special_tokens={}, override=str(tmp_path / "absent.jinja"))


def _render(directory: Path, *, with_tools: bool = False, override: str | None = None) -> str:
    templates = ChatTemplates.load(directory, special_tokens={}, override=override)
    return templates.choose(with_tools=with_tools).render([_USER])


def test_templates_are_found_where_checkpoints_keep_them(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "config"}))
    assert _render(tmp_path) == "config"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert _render(tmp_path) == "file"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    assert _render(tmp_path) == "file"
    assert _render(tmp_path, with_tools=True) == "tools"
    override = tmp_path / "mine.jinja"
    override.write_text("mine")
    assert _render(tmp_path, with_tools=True, override=str(override)) == "mine"


def test_named_templates_of_the_config(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert _render(tmp_path) == "plain"
    assert _render(tmp_path, with_tools=True) == "tools"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named[1:]}))
    with pytest.raises(RequestError, match="no default chat template"):
        _render(tmp_path)


def test_models_without_a_template_are_told_by_the_errors_code(tmp_path: Path) -> None:
    for config in ({}, {"chat_template": [{"name": "tool_use", "template": "tools"}]}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        with pytest.raises(RequestError) as error:
            _render(tmp_path)
        assert error.value.code == "no_chat_template"


def test_processor_template_file(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "processor"}))
    assert _render(tmp_path) == "processor"


def test_model_without_template_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--chat-template"):
        _render(tmp_path)
