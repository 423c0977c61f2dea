"""From ``options`` and ``format`` to sampling parameters."""

from __future__ import annotations

import json
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.api import Serving
from hookline.sampling_params import SamplingParams
from hookline_ollama.bodies import RunBody, RunOptions

#: Options that go to the sampler under their own names.
_SAME = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty")
#: The sampler's name -> Ollama's, for errors.
_NAMES = {"repetition_penalty": "repeat_penalty", "max_new_tokens": "num_predict"}


def sampling_params(serving: Serving, body: RunBody, **more: Any) -> SamplingParams:
    """What the request asks for, above the defaults of the server and the model; ``more`` is on top.

    Raises ``RequestError`` in Ollama's words.
    """
    values = {**_from_options(body.options or RunOptions()), **more}
    schema = _schema(body.format)
    if schema is not None:
        values["json_schema"] = schema
    try:
        return serving.default_sampling_params(values)
    except RequestError as exc:
        name = _NAMES.get(exc.param or "")
        if name is None:
            raise
        message = exc.message.replace(str(exc.param), name)
        raise RequestError(message, param=name, code=exc.code, status_code=exc.status_code) from exc


def _from_options(options: RunOptions) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(options, name) for name in _SAME}
    values["repetition_penalty"] = options.repeat_penalty
    if options.stop:
        values["stop"] = options.stop
    if options.top_k is not None:
        # 0 is "off" to Ollama.
        values["top_k"] = options.top_k if options.top_k > 0 else -1
    if options.seed is not None and options.seed >= 0:
        # -1 is "any" to Ollama.
        values["seed"] = options.seed
    if options.num_predict is not None:
        # -1 (for ever) and -2 (until the context is full) both end with the context.
        values["max_new_tokens"] = options.num_predict if options.num_predict >= 0 else None
    else:
        values["max_new_tokens"] = None
    return values


def _schema(wish: str | dict[str, Any] | None) -> str | None:
    if wish is None or wish == "":
        return None
    if wish == "json":
        return '{"type": "object"}'
    if isinstance(wish, str):
        raise RequestError(f"format must be 'json' or a JSON schema, not {wish!r:.80}", param="format")
    return json.dumps(wish)
