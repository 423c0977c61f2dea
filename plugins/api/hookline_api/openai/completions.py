"""``/v1/completions``: text in, text out."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from hookline.api.choice import Choice, raise_if_failed
from hookline.api.sse import event
from hookline.api.tasks import side_by_side
from hookline.errors import RequestError
from hookline.interfaces.api import Chunk, GenerateRequest, Serving
from hookline.messages.requests import LogprobRequest
from hookline_api.openai.bodies import CompletionBody, StreamOptions
from hookline_api.openai.logprobs import CompletionLogprobs
from hookline_api.openai.usage import Usage
from hookline_api.prompts import Prompt, read_prompts

_DEFAULT_MAX_TOKENS = 16
_MAX_LOGPROBS = 20


class CompletionAnswer:
    """The answer to one completion request: all choices of prompt 0, then of prompt 1, and so on."""

    def __init__(self, serving: Serving, body: CompletionBody) -> None:
        """Raises ``RequestError`` for anything that is wrong with the request."""
        _check(body)
        serving.check_model(body.model)
        self._serving = serving
        self._body = body
        self._id = body.rid or f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = body.model or serving.models()[0].id
        self._prompts, _ = read_prompts(body.prompt, field="prompt")
        self._requests = self._engine_requests()
        self._skip_special_tokens = self._requests[0].sampling_params.skip_special_tokens
        self._num_choices = self._requests[0].sampling_params.n
        self._usage = Usage()

    async def whole(self) -> dict[str, Any]:
        """The ``text_completion`` object."""
        choices: dict[tuple[int, int], Choice] = {}
        async with aclosing(self._chunks()) as chunks:
            async for number, chunk in chunks:
                choices.setdefault((number, chunk.index), Choice()).add(chunk)
                self._usage.update(number, chunk.index, chunk.stats)
        return {
            **self._head(),
            "choices": [await self._whole_choice(*key, choice) for key, choice in sorted(choices.items())],
            "usage": self._usage.body(),
        }

    async def events(self) -> AsyncGenerator[bytes]:
        """``text_completion`` events; the last of a choice carries its finish reason."""
        options = self._body.stream_options or StreamOptions()
        logprobs: dict[tuple[int, int], CompletionLogprobs] = {}
        async with aclosing(self._chunks()) as chunks:
            async for number, chunk in chunks:
                raise_if_failed(chunk.finish_reason)
                self._usage.update(number, chunk.index, chunk.stats)
                key = (number, chunk.index)
                is_first = key not in logprobs
                if is_first:
                    logprobs[key] = self._new_logprobs()
                choice = await self._chunk_choice(number, chunk, logprobs[key], is_first=is_first)
                if choice is not None:
                    yield event({**self._head(), "choices": [choice], **self._chunk_usage(options)})
        if options.include_usage:
            yield event({**self._head(), "choices": [], "usage": self._usage.body()})

    def _engine_requests(self) -> list[GenerateRequest]:
        body = self._body
        values = body.sampling_overrides()
        params = self._serving.default_sampling_params(values, max_new_tokens=_DEFAULT_MAX_TOKENS)
        logprobs = None
        if body.logprobs is not None:
            logprobs = LogprobRequest(top=body.logprobs, input_start=0 if body.echo else None)
        return [
            GenerateRequest(
                prompt=prompt if isinstance(prompt, str) else None,
                input_ids=None if isinstance(prompt, str) else prompt,
                sampling_params=params,
                stream=bool(body.stream),
                rid=self._id if len(self._prompts) == 1 else f"{self._id}-{number}",
                model=body.model,
                logprobs=logprobs,
                priority=body.priority,
                cache_salt=body.cache_salt,
                extra_key=body.extra_key,
            )
            for number, prompt in enumerate(self._prompts)
        ]

    def _chunks(self) -> AsyncGenerator[tuple[int, Chunk]]:
        return side_by_side([self._serving.generate(request) for request in self._requests])

    async def _whole_choice(self, number: int, index: int, choice: Choice) -> dict[str, Any]:
        assert choice.finish_reason is not None
        logprobs = None
        if self._body.logprobs is not None:
            entries = [*choice.input_logprobs, *choice.output_logprobs]
            logprobs = await self._new_logprobs().block(entries, self._body.logprobs)
        return {
            "index": number * self._num_choices + index,
            "text": await self._echo(self._prompts[number]) + choice.text,
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason.type,
            "matched_stop": choice.finish_reason.matched,
        }

    async def _chunk_choice(
        self, number: int, chunk: Chunk, logprobs: CompletionLogprobs, *, is_first: bool
    ) -> dict[str, Any] | None:
        """The choice of a chunk, or ``None`` if the chunk has nothing to tell."""
        text = chunk.text
        if is_first:
            text = await self._echo(self._prompts[number]) + text
        block = None
        if self._body.logprobs is not None:
            entries = [*(chunk.input_logprobs or ()), *(chunk.output_logprobs or ())]
            block = await logprobs.block(entries, self._body.logprobs) if entries else None
        finish = chunk.finish_reason
        if not text and block is None and finish is None:
            return None
        choice: dict[str, Any] = {
            "index": number * self._num_choices + chunk.index,
            "text": text,
            "logprobs": block,
            "finish_reason": None,
        }
        if finish is not None:
            choice["finish_reason"] = finish.type
            choice["matched_stop"] = finish.matched
        return choice

    async def _echo(self, prompt: Prompt) -> str:
        if not self._body.echo:
            return ""
        if isinstance(prompt, str):
            return prompt
        return await self._serving.detokenize(prompt, skip_special_tokens=self._skip_special_tokens)

    def _new_logprobs(self) -> CompletionLogprobs:
        return CompletionLogprobs(self._serving, skip_special_tokens=self._skip_special_tokens)

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": "text_completion", "created": self._created, "model": self._model}

    def _chunk_usage(self, options: StreamOptions) -> dict[str, Any]:
        if options.continuous_usage_stats:
            return {"usage": self._usage.body()}
        return {"usage": None} if options.include_usage else {}


def _check(body: CompletionBody) -> None:
    body.check_streaming()
    if body.suffix:
        raise RequestError("suffix (filling in the middle) is not supported; leave it out", param="suffix")
    if body.best_of is not None and body.best_of != body.num_choices:
        raise RequestError(
            f"best_of is not supported; leave it out, or set it to n ({body.num_choices})", param="best_of"
        )
    if body.logprobs is not None and not 0 <= body.logprobs <= _MAX_LOGPROBS:
        raise RequestError(f"logprobs must be from 0 to {_MAX_LOGPROBS}, not {body.logprobs}", param="logprobs")
