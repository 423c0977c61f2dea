"""Request bodies of the native API."""

from __future__ import annotations

from typing import Any

from hookline.api.bodies import RequestBody
from hookline_api.prompts import TextField, TokensField


class PromptBody(RequestBody):
    """One prompt or a list of them, as text or as token ids."""

    text: TextField = None
    input_ids: TokensField = None
    #: Ids by which the requests can be aborted; one for each prompt.
    rid: str | list[str] | None = None
    #: Served model or adapter. ``lora_path`` is the adapter under SGLang's name for it.
    model: str | None = None
    lora_path: str | list[str | None] | None = None
    priority: int = 0
    cache_salt: str = ""
    extra_key: str = ""


class GenerateBody(PromptBody):
    """``/generate``. Lists give one value for each prompt."""

    sampling_params: dict[str, Any] | list[dict[str, Any]] | None = None
    return_logprob: bool | list[bool] = False
    #: First prompt position whose log-probability is wanted; -1: none of the prompt.
    logprob_start_len: int | list[int] = -1
    top_logprobs_num: int | list[int] = 0
    token_ids_logprob: list[int] | list[list[int]] | None = None
    return_text_in_logprobs: bool = False
    stream: bool = False
    #: URLs, or files in base64: one or several for one prompt, an entry for each prompt of a list. Their placeholders
    #: must stand in the prompt. A video is a file, or a list of frames.
    image_data: Any = None
    video_data: Any = None
    #: How they are processed: min_pixels, max_pixels, fps, num_frames.
    mm_processor_kwargs: dict[str, Any] | None = None


class EncodeBody(PromptBody):
    """``/encode``."""

    pooling: str | None = None
    normalize: bool = True
    dimensions: int | None = None


class TokenizeBody(RequestBody):
    """``/tokenize``. ``text`` is another name of ``prompt``."""

    prompt: TextField = None
    text: TextField = None
    add_special_tokens: bool = True


class DetokenizeBody(RequestBody):
    """``/detokenize``. ``input_ids`` is another name of ``tokens``."""

    tokens: TokensField = None
    input_ids: TokensField = None
    skip_special_tokens: bool = True


class ParseFunctionCallBody(RequestBody):
    """``/parse_function_call``."""

    text: str
    #: OpenAI's tool objects.
    tools: list[dict[str, Any]]
    #: The parser that the caller expects; the server's own is the only one it has.
    tool_call_parser: str | None = None


class SeparateReasoningBody(RequestBody):
    """``/separate_reasoning``."""

    text: str
    #: As ``tool_call_parser``.
    reasoning_parser: str | None = None
    #: The end of the prompt that the text answers, for templates that open the reasoning ("<think>\n").
    prompt_tail: str = ""
    chat_template_kwargs: dict[str, Any] | None = None


class AbortBody(RequestBody):
    """``/abort_request``."""

    rid: str | None = None
    abort_all: bool = False


class UpdateWeightsBody(RequestBody):
    """``/update_weights_from_disk``."""

    model_path: str


class MemoryBody(RequestBody):
    """``/release_memory_occupation`` and ``/resume_memory_occupation``."""

    #: "weights" and "kv" ("kv_cache" in SGLang's words); ``None``: both.
    tags: list[str] | None = None
