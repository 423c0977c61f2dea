"""The formats of the shipped parsers as templates of ours, written from the public ones that the parsers cite."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from hookline.interfaces.parsers import FunctionCallParser
from hookline_parsers.plugin import hookline_function_call_parsers
from tests.parsers.cases import LogicalCase


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFormat:
    """How calls of one format are rendered."""

    parser: str
    #: Renders ``calls``, each with ``name`` and ``arguments``.
    template: str
    #: The fixed strings of the format.
    markers: Sequence[str]
    #: Those that end a bare value, so that no value can hold them.
    unquotable: Sequence[str] = ()
    #: What calls stand in when text comes before them, if a format needs that.
    amid: tuple[str, str] = ("", "")
    reasoning: str = "think"
    thought: str = "<think>\n{}\n</think>\n\n"
    #: How text is written.
    text: str = "{}"

    @property
    def quotable(self) -> list[str]:
        return [marker for marker in self.markers if marker not in self.unquotable]

    def render_calls(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        """These calls, as a grammar has them: with JSON's quotes, and without what is an end token."""
        text = self.render(LogicalCase(name="", parts=calls))
        text = text.replace("'", '"') if self.parser == "pythonic" else text
        return text.removesuffix("<|call|>")

    def render(self, case: LogicalCase) -> str:
        """The output of a model that means the case."""
        pieces = []
        index = 0
        for at, group in enumerate(case.groups):
            if isinstance(group, str):
                pieces.append(self.text.format(group))
                continue
            calls = [{"name": name, "arguments": arguments} for name, arguments in group]
            text = _ENVIRONMENT.from_string(self.template).render(calls=calls, first=index)
            index += len(calls)
            pieces.append(text if at == 0 else self.amid[0] + text + self.amid[1])
        return (self.thought.format(case.reasoning) if case.reasoning else "") + "\n".join(pieces)


def _python(value: object) -> str:
    return repr(value)


def _bare(value: object) -> str:
    """A string bare, all other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _printed(value: object) -> str:
    """Objects and arrays as JSON, all other values as Python prints them."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["python"] = _python
    environment.filters["bare"] = _bare
    environment.filters["printed"] = _printed
    return environment


_ENVIRONMENT = _environment()

_QWEN25 = """\
{% for call in calls %}
<tool_call>
{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}
</tool_call>{{ "" if loop.last else "\n" }}
{%- endfor %}"""

_INTERNS1 = """\
{% for call in calls %}
<|action_start|> <|plugin|>
{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|action_end|>{{ "" if loop.last else "\n" }}
{%- endfor %}"""

_CODER = """\
{% for call in calls %}
<tool_call>
<function={{ call.name }}>
{% for key, value in call.arguments.items() %}
<parameter={{ key }}>
{{ value | printed }}
</parameter>
{% endfor %}
</function>
</tool_call>{{ "" if loop.last else "\n" }}
{%- endfor %}"""

_MIMO = """\
{% for call in calls %}
<tool_call>
<function={{ call.name }}>
{% for key, value in call.arguments.items() %}
<parameter={{ key }}>{{ value | bare }}</parameter>
{% endfor %}
</function>
</tool_call>{{ "" if loop.last else "\n" }}
{%- endfor %}"""

_LLAMA3 = """\
{% for call in calls %}{{ "; " if not loop.first }}\
{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}{% endfor %}"""

_PYTHONIC = """\
[{% for call in calls %}{{ call.name }}(\
{% for key, value in call.arguments.items() %}{{ key }}={{ value | python }}{{ "" if loop.last else ", " }}\
{% endfor %}){{ "" if loop.last else ", " }}{% endfor %}]"""

_MISTRAL = """\
[TOOL_CALLS] [{% for call in calls %}{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}\
{{ "" if loop.last else ", " }}{% endfor %}]"""

_MISTRAL_LONG = """\
[TOOL_CALLS] [{% for call in calls %}{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}, \
"id": "aB3dE5gH{{ loop.index0 }}"}{{ "" if loop.last else ", " }}{% endfor %}]"""

_MISTRAL_COMPACT = """\
{% for call in calls %}[TOOL_CALLS]{{ call.name }}[ARGS]{{ call.arguments | tojson }}{% endfor %}"""

_MISTRAL_ID = """\
{% for call in calls %}[TOOL_CALLS]{{ call.name }}[CALL_ID]aB3dE5gH{{ loop.index0 }}\
[ARGS]{{ call.arguments | tojson }}{% endfor %}"""

_DEEPSEEK_V3 = """\
<｜tool▁calls▁begin｜>{% for call in calls %}{{ "\n" if not loop.first }}\
<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ call.name }}
```json
{{ call.arguments | tojson }}
```<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜>"""

_DEEPSEEK_V31 = """\
<｜tool▁calls▁begin｜>{% for call in calls %}<｜tool▁call▁begin｜>{{ call.name }}<｜tool▁sep｜>\
{{ call.arguments | tojson }}<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜>"""

_DEEPSEEK_V32 = """\
<｜DSML｜function_calls>
{% for call in calls %}
<｜DSML｜invoke name="{{ call.name }}">
{% for key, value in call.arguments.items() %}
<｜DSML｜parameter name="{{ key }}" string="{{ "true" if value is string else "false" }}">\
{{ value | bare }}</｜DSML｜parameter>
{% endfor %}
</｜DSML｜invoke>
{% endfor %}
</｜DSML｜function_calls>"""

_KIMI_K2 = """\
<|tool_calls_section_begin|>{% for call in calls %}\
<|tool_call_begin|>functions.{{ call.name }}:{{ first + loop.index0 }}<|tool_call_argument_begin|>\
{{ call.arguments | tojson }}<|tool_call_end|>{% endfor %}<|tool_calls_section_end|>"""

_GLM45 = """\
{% for call in calls %}
<tool_call>{{ call.name }}
{% for key, value in call.arguments.items() %}
<arg_key>{{ key }}</arg_key>
<arg_value>{{ value | bare }}</arg_value>
{% endfor %}
</tool_call>{{ "" if loop.last else "\n" }}
{%- endfor %}"""

_GLM47 = """\
{% for call in calls %}<tool_call>{{ call.name }}\
{% for key, value in call.arguments.items() %}<arg_key>{{ key }}</arg_key><arg_value>{{ value | bare }}</arg_value>\
{% endfor %}</tool_call>{% endfor %}"""

_STEP3 = """\
<｜tool_calls_begin｜>
{% for call in calls %}
<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="{{ call.name }}">
{% for key, value in call.arguments.items() %}
<steptml:parameter name="{{ key }}">{{ value | bare }}</steptml:parameter>
{% endfor %}
</steptml:invoke><｜tool_call_end｜>
{% endfor %}
<｜tool_calls_end｜>"""

_MINIMAX = """\
<minimax:tool_call>
{% for call in calls %}
<invoke name="{{ call.name }}">
{% for key, value in call.arguments.items() %}
<parameter name="{{ key }}">{{ value | bare }}</parameter>
{% endfor %}
</invoke>
{% endfor %}
</minimax:tool_call>"""

_GPT_OSS = """\
{% for call in calls %}{{ "<|start|>assistant" if first or not loop.first }}\
<|channel|>commentary to=functions.{{ call.name }} <|constrain|>json<|message|>\
{{ call.arguments | tojson }}<|call|>{% endfor %}"""

_V3_MARKERS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)
_TOOL_CALL = ("<tool_call>", "</tool_call>")
_CODER_MARKERS = (*_TOOL_CALL, "<function=", "</function>", "<parameter=", "</parameter>")
_HARMONY = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>")

FORMATS: tuple[RenderedFormat, ...] = (
    RenderedFormat(parser="qwen25", template=_QWEN25, markers=_TOOL_CALL, reasoning="qwen3"),
    RenderedFormat(parser="hermes", template=_QWEN25, markers=_TOOL_CALL),
    RenderedFormat(
        parser="interns1",
        template=_INTERNS1,
        markers=("<|action_start|> <|plugin|>", "<|action_end|>"),
        reasoning="interns1",
    ),
    RenderedFormat(
        parser="qwen3_coder",
        template=_CODER,
        markers=_CODER_MARKERS,
        unquotable=("</parameter>",),
        reasoning="qwen3-thinking",
        thought="{}\n</think>\n\n",
    ),
    RenderedFormat(parser="mimo", template=_MIMO, markers=_CODER_MARKERS, unquotable=("</parameter>",)),
    RenderedFormat(parser="llama3", template=_LLAMA3, markers=("<|python_tag|>",), amid=("<|python_tag|>", "")),
    RenderedFormat(
        parser="pythonic",
        template=_PYTHONIC,
        markers=("<|python_start|>", "<|python_end|>"),
        amid=("<|python_start|>", "<|python_end|>"),
    ),
    RenderedFormat(parser="mistral", template=_MISTRAL, markers=("[TOOL_CALLS]",)),
    RenderedFormat(parser="mistral", template=_MISTRAL_COMPACT, markers=("[TOOL_CALLS]", "[ARGS]")),
    RenderedFormat(parser="mistral", template=_MISTRAL_LONG, markers=("[TOOL_CALLS]",)),
    RenderedFormat(parser="mistral-compact", template=_MISTRAL_COMPACT, markers=("[TOOL_CALLS]", "[ARGS]")),
    RenderedFormat(parser="mistral-compact", template=_MISTRAL_ID, markers=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")),
    RenderedFormat(
        parser="deepseekv3",
        template=_DEEPSEEK_V3,
        markers=_V3_MARKERS,
        reasoning="deepseek-r1",
        thought="{}\n</think>\n\n",
    ),
    RenderedFormat(parser="deepseekv31", template=_DEEPSEEK_V31, markers=_V3_MARKERS, reasoning="deepseek-v3"),
    RenderedFormat(
        parser="deepseekv32",
        template=_DEEPSEEK_V32,
        markers=("<｜DSML｜function_calls>", '<｜DSML｜invoke name="', "</｜DSML｜invoke>", "</｜DSML｜parameter>"),
        unquotable=("</｜DSML｜parameter>",),
        reasoning="deepseek-v3",
    ),
    RenderedFormat(
        parser="kimi_k2",
        template=_KIMI_K2,
        markers=(
            "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
        ),
        reasoning="kimi_k2",
    ),
    RenderedFormat(
        parser="glm45",
        template=_GLM45,
        markers=(*_TOOL_CALL, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        unquotable=("</arg_value>",),
        reasoning="glm45",
    ),
    RenderedFormat(
        parser="glm47",
        template=_GLM47,
        markers=(*_TOOL_CALL, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        unquotable=("</arg_value>",),
        reasoning="glm45",
    ),
    RenderedFormat(
        parser="step3",
        template=_STEP3,
        markers=("<｜tool_calls_begin｜>", "<｜tool_call_begin｜>", "<｜tool_sep｜>", "</steptml:parameter>"),
        unquotable=("</steptml:parameter>",),
        reasoning="step3",
        thought="{}</think>",
    ),
    RenderedFormat(
        parser="minimax-m2",
        template=_MINIMAX,
        markers=("<minimax:tool_call>", "</minimax:tool_call>", '<invoke name="', "</invoke>", "</parameter>"),
        unquotable=("</parameter>",),
        reasoning="minimax",
        thought="{}\n</think>\n\n",
    ),
    RenderedFormat(
        parser="gpt-oss",
        template=_GPT_OSS,
        markers=_HARMONY,
        reasoning="gpt-oss",
        thought="<|channel|>analysis<|message|>{}<|end|><|start|>assistant",
        text="<|channel|>final<|message|>{}<|end|>",
    ),
)


def names(formats: Sequence[RenderedFormat] = FORMATS) -> list[str]:
    """Ids of tests: the parser, and a number where it reads several formats."""
    seen: dict[str, int] = {}
    found = []
    for each in formats:
        seen[each.parser] = seen.get(each.parser, 0) + 1
        found.append(each.parser + ("" if seen[each.parser] == 1 else f"-{seen[each.parser]}"))
    return found


def parser_class(name: str) -> type[FunctionCallParser]:
    """The shipped parser of calls of this name."""
    (spec,) = [spec for spec in hookline_function_call_parsers() if spec.name == name]
    module, _, attribute = spec.target.partition(":")
    loaded: type[FunctionCallParser] = getattr(importlib.import_module(module), attribute)
    return loaded


def arguments_of(calls: Sequence[tuple[str, str]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Calls with their arguments as values."""
    return [(name, json.loads(text)) for name, text in calls]
