"""From chat and generate bodies to engine requests and parsers of their output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.api import GenerateRequest, RenderedChat, Serving
from hookline.messages.requests import LogprobRequest
from hookline_ollama.answers import RunAnswer
from hookline_ollama.bodies import ChatBody, GenerateBody, RunBody
from hookline_ollama.catalog import capabilities, served_name
from hookline_ollama.pieces import Piece
from hookline_ollama.sampling import sampling_params

_EFFORTS = ("low", "medium", "high")
#: As many as Ollama gives.
_MAX_TOP_LOGPROBS = 20


async def chat_answer(serving: Serving, body: ChatBody) -> RunAnswer:
    """Check and render a chat. Raises ``RequestError`` for anything that is wrong with the request."""
    name = served_name(serving, body.model)
    tools = [_tool(tool, index) for index, tool in enumerate(body.tools or ())]
    if tools:
        _need(serving, "tools", body.model)
    template_kwargs = _thinking(serving, body)
    messages = [_message(message, index) for index, message in enumerate(body.messages or ())]
    rendered = await serving.render_chat(messages, tools=tools, template_kwargs=template_kwargs)
    return _answer(serving, body, name, rendered, _chat_shape, tools=tools, template_kwargs=template_kwargs)


async def generate_answer(serving: Serving, body: GenerateBody) -> RunAnswer:
    """Check and render a prompt. Raises ``RequestError`` for anything that is wrong with the request."""
    name = served_name(serving, body.model)
    for field, remedy in (
        ("suffix", "put it into the prompt in the model's own format, with raw"),
        ("template", "render the prompt yourself, with raw"),
        ("context", "send the conversation to /api/chat"),
    ):
        if getattr(body, field):
            raise RequestError(f"{field} is not supported here; {remedy}", param=field)
    template_kwargs = _thinking(serving, body)
    if body.raw:
        if body.images:
            raise RequestError("images do not go with raw; send them to /api/chat", param="images")
        return _answer(serving, body, name, body.prompt, _generate_shape)
    system = [{"role": "system", "content": body.system}] if body.system else []
    messages = [*system, {"role": "user", "content": _content(body.prompt, body.images, "images")}]
    try:
        rendered = await serving.render_chat(messages, template_kwargs=template_kwargs)
    except RequestError as exc:
        if exc.code != "no_chat_template":
            raise
        # A base model continues text.
        text = f"{body.system} {body.prompt}" if body.system else body.prompt
        return _answer(serving, body, name, text, _generate_shape)
    return _answer(serving, body, name, rendered, _generate_shape, template_kwargs=template_kwargs)


def _answer(
    serving: Serving,
    body: RunBody,
    name: str,
    prompt: RenderedChat | str,
    shape: Any,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    template_kwargs: Mapping[str, Any] | None = None,
) -> RunAnswer:
    is_chat = isinstance(prompt, RenderedChat)
    rendered = prompt if isinstance(prompt, RenderedChat) else RenderedChat(prompt=prompt, input_ids=[])
    # The markers of calls may be special tokens.
    more: dict[str, Any] = {"skip_special_tokens": False} if tools else {}
    if rendered.stop:
        own = body.options.stop if body.options is not None else None
        more["stop"] = [*([own] if isinstance(own, str) else own or []), *rendered.stop]
    params = sampling_params(serving, body, **more)
    request = GenerateRequest(
        prompt=None if is_chat else rendered.prompt,
        input_ids=rendered.input_ids if is_chat else None,
        media=rendered.media,
        sampling_params=params,
        stream=body.is_streamed,
        model=name,
        logprobs=_logprobs(body),
    )
    parser = serving.output_parser(
        rendered,
        tools=tools,
        template_kwargs=template_kwargs,
        # A grammar holds from the first token on: there is no reasoning, even if the template opened some.
        separate_reasoning=is_chat and params.grammar is None,
    )
    return RunAnswer(serving=serving, request=request, parser=parser, model=body.model, shape=shape)


def _chat_shape(piece: Piece) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": piece.content}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.calls:
        message["tool_calls"] = piece.calls
    return {"message": message}


def _generate_shape(piece: Piece) -> dict[str, Any]:
    return {"response": piece.content, **({"thinking": piece.thinking} if piece.thinking else {})}


def _message(message: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A message as chat templates know it: Ollama's, but for the names around tools."""
    renamed = {key: value for key, value in message.items() if key not in ("images", "tool_name")}
    if message.get("images"):
        renamed["content"] = _content(message.get("content") or "", message["images"], f"messages[{index}].images")
    if message.get("role") == "tool" and "tool_name" in message:
        renamed["name"] = message["tool_name"]
    if isinstance(calls := message.get("tool_calls"), list):
        renamed["tool_calls"] = [{"type": "function", **call} if isinstance(call, dict) else call for call in calls]
    return renamed


def _tool(tool: Mapping[str, Any], index: int) -> dict[str, Any]:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if tool.get("type", "function") != "function" or not isinstance(name, str) or not name:
        raise RequestError(
            f'tools[{index}] must be {{"type": "function", "function": {{"name": ..., ...}}}}', param="tools"
        )
    return {"type": "function", **tool}


def _thinking(serving: Serving, body: RunBody) -> dict[str, Any]:
    """``think`` for the chat template, under the names that templates have for it."""
    if body.think is None:
        return {}
    if isinstance(body.think, str) and body.think not in _EFFORTS:
        raise RequestError(
            f"think must be true, false or one of {', '.join(_EFFORTS)}, not {body.think!r:.40}", param="think"
        )
    if body.think:
        _need(serving, "thinking", body.model)
    effort = {"reasoning_effort": body.think} if isinstance(body.think, str) else {}
    return {"enable_thinking": bool(body.think), **effort}


def _need(serving: Serving, capability: str, model: str) -> None:
    if capability not in capabilities(serving):
        raise RequestError(f"the model {json.dumps(model)} does not support {capability} on this server")


def _logprobs(body: RunBody) -> LogprobRequest | None:
    top = body.top_logprobs or 0
    if not 0 <= top <= _MAX_TOP_LOGPROBS:
        raise RequestError(f"top_logprobs must be from 0 to {_MAX_TOP_LOGPROBS}, not {top}", param="top_logprobs")
    return LogprobRequest(top=top) if body.logprobs else None


def _content(text: str, images: Any, field: str) -> Any:
    """A text, behind its pictures where there are any: files in base64, as Ollama has them."""
    if not images:
        return text
    if not isinstance(images, list):
        raise RequestError(f"{field} must be a list of pictures in base64", param=field.partition("[")[0])
    pictures = [
        {"type": "image", "image": f"data:;base64,{image}", "place": f"{field}[{number}]"}
        for number, image in enumerate(images)
    ]
    return [*pictures, {"type": "text", "text": text}]
