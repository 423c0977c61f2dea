"""ChatTemplate: a checkpoint's Jinja template, rendered as transformers renders it.

The environment (sandbox, block trimming, ``tojson``, ``raise_exception``, ``strftime_now``, the
``generation`` tag) is the one that checkpoint authors write for; a test compares every answer with
``apply_chat_template``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hookline.errors import ConfigError, RequestError
from hookline.frontend.chat_messages import normalize_messages
from hookline.text.tokenizer_files import read_json

#: Arguments that render() sets itself.
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})
#: Marks the place up to which a continued message reaches. The space shows whether the template trims.
_CONTINUE_MARK = "\ue000CONTINUE-HERE\ue000"
#: What a template may stumble over in messages that it was not written for.
_RENDER_ERRORS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class ChatTemplate:
    """One compiled template. Rendering is thread-safe."""

    def __init__(self, source: str, *, name: str, special_tokens: Mapping[str, Any] | None = None) -> None:
        """``name`` says in errors where ``source`` comes from. Raises ``ConfigError`` if it does not compile."""
        environment = _environment()
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as exc:
            raise ConfigError(f"the chat template of {name} is not valid Jinja: {exc} (line {exc.lineno})") from exc
        self._special_tokens = dict(special_tokens or {})
        #: Whether the template itself walks over a message's content parts.
        self.takes_content_parts = _iterates_content(tree)
        #: Whether the template knows the developer role; otherwise it is given as system.
        self.knows_developer = "developer" in source

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        placeholders: Mapping[str, str] | None = None,
    ) -> str:
        """The prompt for OpenAI message objects.

        With ``continue_final_message`` the prompt ends inside the last message (and ``add_generation_prompt``
        has no effect). ``placeholders`` are the texts of media parts, for templates that take none. Raises
        ``RequestError`` for messages that are malformed or that the template refuses.
        """
        arguments = dict(template_kwargs or {})
        taken = sorted(_RESERVED & arguments.keys())
        if taken:
            raise RequestError(
                f"chat_template_kwargs must not set {', '.join(taken)}; use the request's own fields",
                param="chat_template_kwargs",
            )
        chat = normalize_messages(
            messages,
            keep_parts=self.takes_content_parts,
            developer_as_system=not self.knows_developer,
            placeholders=placeholders or {},
        )
        if continue_final_message:
            _mark_end(chat)
        try:
            prompt = self._template.render(
                **{**self._special_tokens, **arguments},
                messages=chat,
                tools=[dict(tool) for tool in tools] or None,
                add_generation_prompt=add_generation_prompt and not continue_final_message,
            )
        except _RENDER_ERRORS as exc:
            raise RequestError(f"the chat template refuses these messages: {exc}", param="messages") from exc
        return _cut_at_mark(prompt) if continue_final_message else prompt


class ChatTemplates:
    """The templates of a checkpoint: the default one, and one for tools where there is one."""

    def __init__(self, templates: Mapping[str, ChatTemplate]) -> None:
        self._templates = dict(templates)

    @classmethod
    def load(
        cls, tokenizer_path: str | Path, *, special_tokens: Mapping[str, str], override: str | None = None
    ) -> ChatTemplates:
        """From a tokenizer's directory, or from the Jinja file ``override``.

        ``special_tokens`` ("bos_token" and its like -> text) are what templates may print. An absent template
        is not an error here: base models have none. Raises ``ConfigError`` or ``ModelError`` for one that
        cannot be read or does not compile.
        """
        directory = Path(tokenizer_path)
        if override is not None:
            sources = {"default": _read_override(override)}
            name = f"'{override}'"
        else:
            sources = _find_sources(directory)
            name = f"'{directory}'"
        return cls({key: ChatTemplate(text, name=name, special_tokens=special_tokens) for key, text in sources.items()})

    @property
    def has_default(self) -> bool:
        """Whether chats without tools can be rendered."""
        return "default" in self._templates

    def choose(self, *, with_tools: bool) -> ChatTemplate:
        """The template for a request; raises ``RequestError`` if the checkpoint has none."""
        names = ("tool_use", "default") if with_tools else ("default",)
        for name in names:
            if name in self._templates:
                return self._templates[name]
        if self._templates:
            known = ", ".join(sorted(self._templates))
            raise RequestError(
                f"this model has no default chat template (it has {known}); set chat_template to a file",
                code="no_chat_template",
            )
        raise RequestError(
            "this model has no chat template; use completions, or start the server with --chat-template FILE",
            code="no_chat_template",
        )


class _GenerationTag(jinja2.ext.Extension):
    """``{% generation %}`` marks assistant text for training; for rendering it only opens a scope."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which no model was trained on.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _iterates_content(tree: jinja2.nodes.Template) -> bool:
    """Whether some loop of the template runs over a message's ``content``, directly, through a variable, or as the
    argument of a macro."""
    names = {
        assign.target.name
        for assign in tree.find_all(jinja2.nodes.Assign)
        if isinstance(assign.target, jinja2.nodes.Name) and _is_content(assign.node, set())
    }
    loops = list(tree.find_all(jinja2.nodes.For))
    for macro in tree.find_all(jinja2.nodes.Macro):
        passed = _content_arguments(tree, macro, names)
        loops_inside = macro.find_all(jinja2.nodes.For)
        if any(isinstance(loop.iter, jinja2.nodes.Name) and loop.iter.name in passed for loop in loops_inside):
            return True
    return any(_is_content(loop.iter, names) for loop in loops)


def _content_arguments(tree: jinja2.nodes.Template, macro: jinja2.nodes.Macro, names: set[str]) -> set[str]:
    """The arguments of a macro as which some call passes a message's content."""
    return {
        argument.name
        for call in tree.find_all(jinja2.nodes.Call)
        if isinstance(call.node, jinja2.nodes.Name) and call.node.name == macro.name
        for argument, value in zip(macro.args, call.args, strict=False)
        if _is_content(value, names)
    }


def _is_content(node: jinja2.nodes.Node, names: set[str]) -> bool:
    if isinstance(node, jinja2.nodes.Filter) and node.node is not None:
        return _is_content(node.node, names)
    if isinstance(node, jinja2.nodes.Name):
        return node.name in names
    if isinstance(node, jinja2.nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, jinja2.nodes.Getitem):
        return isinstance(node.arg, jinja2.nodes.Const) and node.arg.value == "content"
    return False


def _mark_end(chat: list[dict[str, Any]]) -> None:
    """Append the mark to the last message's text."""
    content = chat[-1]["content"]
    if isinstance(content, str) and content:
        chat[-1]["content"] = content + _CONTINUE_MARK + " "
        return
    for part in reversed(content):
        if part.get("text"):
            part["text"] += _CONTINUE_MARK + " "
            return
    raise RequestError("continue_final_message needs text in the last message", param="continue_final_message")


def _cut_at_mark(prompt: str) -> str:
    end = prompt.rfind(_CONTINUE_MARK)
    if end < 0:
        raise RequestError(
            "continue_final_message does not work here: the chat template drops the end of the last message",
            param="continue_final_message",
        )
    keeps_space = prompt.startswith(" ", end + len(_CONTINUE_MARK))
    return prompt[:end] if keeps_space else prompt[:end].rstrip()


def _read_override(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read the chat template '{file}': {exc}") from exc


def _find_sources(directory: Path) -> dict[str, str]:
    """Name -> source: files of their own first, then tokenizer_config.json, then the processor's file."""
    found: dict[str, str] = {}
    main = directory / "chat_template.jinja"
    if main.is_file():
        found["default"] = main.read_text(encoding="utf-8")
    for file in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        found[file.stem] = file.read_text(encoding="utf-8")
    if found:
        return found
    for name in ("tokenizer_config.json", "chat_template.json"):
        value = read_json(directory / name).get("chat_template")
        if isinstance(value, str):
            return {"default": value}
        if isinstance(value, list):
            return {str(item["name"]): str(item["template"]) for item in value}
        if isinstance(value, dict):
            return {str(name): str(text) for name, text in value.items()}
    return {}
