"""Table of contents of hookline-parsers: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.parsers import FunctionCallParserSpec, ReasoningParserSpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="parsers",
    provides=("reasoning_parsers", "function_call_parsers"),
    summary="reasoning and tool-call formats",
)


def _reasoning(name: str, target: str, summary: str, markers: tuple[str, ...] = ()) -> ReasoningParserSpec:
    return ReasoningParserSpec(
        name=name,
        target=f"hookline_parsers.reasoning.{target}",
        template_markers=markers,
        summary=summary,
        special_markers=name == "gpt-oss",
        # Formats of one family alone are better known than the one that many share.
        priority=0 if name == "think" else 1,
    )


@hookimpl
def hookline_reasoning_parsers() -> list[ReasoningParserSpec]:
    """Reasoning formats, named for model families; ``think`` is what most of them share.

    Families whose templates hold the same markers as others give none, and are for models that declare them and
    for users who name them: ``auto`` does not guess between them.
    """
    shown, always = "<think>...</think>, as the prompt shows or the model writes", "always begins in <think>"
    return [
        _reasoning(
            "think",
            "think:ThinkParser",
            "<think>...</think>, written by the model or opened by the chat template",
            ("<think>", "</think>"),
        ),
        _reasoning("qwen3", "think:ThinkParser", f"Qwen3: {shown}"),
        _reasoning("deepseek-v3", "think:ThinkParser", f"DeepSeek V3.1 and V3.2: {shown}"),
        _reasoning("glm45", "think:ThinkParser", f"GLM-4.5 to GLM-5: {shown}"),
        _reasoning("interns1", "think:ThinkParser", f"Intern-S1: {shown}"),
        _reasoning("qwen3-thinking", "think:OpenThinkParser", f"Qwen3 Thinking: {always}"),
        _reasoning("deepseek-r1", "think:OpenThinkParser", f"DeepSeek R1: {always}"),
        _reasoning("step3", "think:OpenThinkParser", f"Step3: {always}"),
        _reasoning("minimax", "think:OpenThinkParser", f"MiniMax-M2: {always}"),
        _reasoning(
            "kimi_k2",
            "think:KimiK2ThinkParser",
            "Kimi K2 Thinking: <think>...</think>, or up to a section of calls",
            ("<think>", "</think>", "<|tool_calls_section_begin|>"),
        ),
        _reasoning("kimi", "kimi:KimiParser", "Kimi-VL: ◁think▷...◁/think▷", ("◁think▷", "◁/think▷")),
        _reasoning(
            "gpt-oss",
            "gpt_oss:GptOssReasoningParser",
            "gpt-oss: the analysis channel",
            ("<|channel|>", "analysis", "<|message|>"),
        ),
    ]


def _calls(
    name: str, target: str, summary: str, markers: tuple[str, ...] = (), priority: int = 0
) -> FunctionCallParserSpec:
    return FunctionCallParserSpec(
        name=name,
        target=f"hookline_parsers.function_call.{target}",
        template_markers=markers,
        summary=summary,
        priority=priority,
    )


@hookimpl
def hookline_function_call_parsers() -> list[FunctionCallParserSpec]:
    """Tool-call formats, each named for the model family that brought it.

    Where the markers of one format are among those of another, the other has the higher priority.
    """
    tagged_json = '<tool_call>{"name", "arguments"}</tool_call>'
    return [
        # A template may write the quotes as \" inside a Jinja string.
        _calls(
            "qwen25",
            "qwen25:Qwen25Parser",
            f"{tagged_json}, as Qwen2.5 and Qwen3 write it",
            ("<tool_call>", '"name', '"arguments'),
        ),
        _calls("hermes", "qwen25:Qwen25Parser", f"{tagged_json}, as Hermes writes it"),
        _calls(
            "qwen3_coder",
            "qwen3_coder:Qwen3CoderParser",
            "<function=f><parameter=a> on lines of their own: Qwen3-Coder",
            ("<tool_call>", "<function=", "<parameter="),
            1,
        ),
        _calls("mimo", "qwen3_coder:MimoParser", "<function=f><parameter=a>, line breaks counted: MiMo-V2"),
        _calls(
            "llama3",
            "llama:Llama3Parser",
            '{"name", "parameters"} in place of text: Llama 3.1 to 3.3',
            ("<|python_tag|>", '"parameters'),
        ),
        _calls("pythonic", "llama:Llama4Parser", "[f(a=1), g()] in place of text: Llama 4", ("<|python_start|>",)),
        _calls(
            "mistral",
            "mistral:MistralParser",
            '[TOOL_CALLS] [{"name", "arguments"}] or [TOOL_CALLS]f[ARGS]{...}: Mistral',
            ("[TOOL_CALLS]",),
        ),
        _calls(
            "mistral-compact",
            "mistral:MistralCompactParser",
            "reads what `mistral` does, writes [TOOL_CALLS]f[ARGS]{...}",
            ("[TOOL_CALLS]", "[ARGS]"),
            1,
        ),
        _calls(
            "deepseekv3",
            "deepseek:DeepSeekV3Parser",
            "<｜tool▁sep｜> and a fenced JSON block: DeepSeek V3 and R1",
            ("<｜tool▁calls▁begin｜>", "```json"),
            1,
        ),
        _calls(
            "deepseekv31",
            "deepseek:DeepSeekV31Parser",
            "f<｜tool▁sep｜>{...}: DeepSeek V3.1",
            ("<｜tool▁calls▁begin｜>",),
        ),
        _calls("deepseekv32", "deepseek:DeepSeekV32Parser", "<｜DSML｜invoke>: DeepSeek V3.2", ("｜DSML｜", "invoke")),
        _calls(
            "kimi_k2",
            "kimi_k2:KimiK2Parser",
            "<|tool_call_begin|>functions.f:0: Kimi K2",
            ("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"),
        ),
        _calls(
            "glm47",
            "glm:Glm47Parser",
            "<arg_key>, <arg_value> without line breaks: GLM-4.7 and GLM-5",
        ),
        _calls(
            "glm45",
            "glm:Glm45Parser",
            "<arg_key>, <arg_value>: GLM-4.5 and GLM-4.6",
            ("<tool_call>", "<arg_key>", "<arg_value>"),
            1,
        ),
        _calls(
            "gpt-oss",
            "gpt_oss:GptOssCallParser",
            "messages to functions.f: gpt-oss",
            ("<|channel|>", "to=functions.", "<|message|>"),
        ),
        _calls("step3", "step3:Step3Parser", "<steptml:invoke>: Step3", ("<steptml:invoke", "<steptml:parameter")),
        _calls(
            "minimax-m2",
            "minimax_m2:MinimaxM2Parser",
            "<minimax:tool_call><invoke>: MiniMax-M2",
            ("<minimax:tool_call>", "<invoke name="),
        ),
        _calls(
            "interns1",
            "interns1:InternS1Parser",
            '<|action_start|> <|plugin|>{"name", "parameters"}: Intern-S1',
            ("<|action_start|>", "<|plugin|>"),
        ),
    ]
