"""``/generate`` and ``/encode``: answers of the native API."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from hookline.api.choice import Choice
from hookline.api.sse import event
from hookline.api.tasks import side_by_side
from hookline.interfaces.api import GenerateRequest, Serving
from hookline.messages.outputs import FinishReason, TokenLogprob
from hookline_api.chat.media import media_details

#: Number of the prompt, index of the choice.
_Key = tuple[int, int]


class GenerateAnswer:
    """The choices of all prompts of one ``/generate`` request."""

    def __init__(
        self, serving: Serving, requests: Sequence[GenerateRequest], *, is_batch: bool, with_token_text: bool
    ) -> None:
        self._serving = serving
        self._requests = requests
        self._is_list = is_batch or requests[0].sampling_params.n > 1
        self._with_token_text = with_token_text
        self._started = time.perf_counter()
        self._choices: dict[_Key, Choice] = {}
        #: Choices before each prompt's own, since prompts may ask for different numbers.
        self._offsets: list[int] = []
        total = 0
        for request in requests:
            self._offsets.append(total)
            total += request.sampling_params.n

    async def whole(self) -> Any:
        """One object, or a list of them: all choices of prompt 0, then of prompt 1, and so on."""
        async for _ in self._read():
            pass
        items = [self._item(key) for key in sorted(self._choices)]
        return items if self._is_list else items[0]

    async def events(self) -> AsyncGenerator[bytes]:
        """An event for each chunk: the choice as it stands, its text so far included."""
        async with aclosing(self._read()) as keys:
            async for key in keys:
                item = self._item(key)
                if self._is_list:
                    item["index"] = self._offsets[key[0]] + key[1]
                yield event(item)

    async def _read(self) -> AsyncGenerator[_Key]:
        streams = [self._serving.generate(request) for request in self._requests]
        async with aclosing(side_by_side(streams)) as chunks:
            async for number, chunk in chunks:
                key = (number, chunk.index)
                self._choices.setdefault(key, Choice()).add(chunk)
                yield key

    def _item(self, key: _Key) -> dict[str, Any]:
        choice, request = self._choices[key], self._requests[key[0]]
        stats = choice.stats
        meta: dict[str, Any] = {
            "id": request.rid,
            "finish_reason": _finish_reason(choice.finish_reason, stats.completion_tokens),
            "prompt_tokens": stats.prompt_tokens,
            "completion_tokens": stats.completion_tokens,
            "cached_tokens": stats.cached_tokens,
            "total_retractions": stats.num_retractions,
            **media_details(choice.media_tokens),
            "queue_time": stats.queue_time,
            "e2e_latency": time.perf_counter() - self._started,
        }
        if request.logprobs is not None:
            meta |= self._logprobs("input", choice.input_logprobs, request)
            meta |= self._logprobs("output", choice.output_logprobs, request)
        return {"text": choice.text, "output_ids": choice.output_ids, "meta_info": meta}

    def _logprobs(self, side: str, entries: Sequence[TokenLogprob], request: GenerateRequest) -> dict[str, Any]:
        """[logprob, id, text or null] for each token; the best and the chosen ones as lists of the same."""
        wish = request.logprobs
        assert wish is not None
        fields: dict[str, Any] = {
            f"{side}_token_logprobs": [self._triple(entry.logprob, entry.token_id) for entry in entries]
        }
        if wish.top:
            fields[f"{side}_top_logprobs"] = [self._triples(entry.top) for entry in entries]
        if wish.token_ids:
            fields[f"{side}_token_ids_logprobs"] = [self._triples(entry.chosen) for entry in entries]
        return fields

    def _triples(self, pairs: Sequence[tuple[int, float]]) -> list[Any] | None:
        return [self._triple(logprob, token_id) for token_id, logprob in pairs] or None

    def _triple(self, logprob: float | None, token_id: int) -> list[Any]:
        return [logprob, token_id, self._serving.token_text(token_id) if self._with_token_text else None]


async def embeddings(serving: Serving, requests: Sequence[GenerateRequest]) -> list[dict[str, Any]]:
    """The vector of each prompt, in their order."""
    choices = [Choice() for _ in requests]
    async with aclosing(side_by_side([serving.generate(request) for request in requests])) as chunks:
        async for number, chunk in chunks:
            choices[number].add(chunk)
    return [
        {
            "embedding": choice.embedding,
            "meta_info": {
                "id": request.rid,
                "prompt_tokens": choice.stats.prompt_tokens,
                "cached_tokens": choice.stats.cached_tokens,
            },
        }
        for choice, request in zip(choices, requests, strict=True)
    ]


def _finish_reason(finish: FinishReason | None, num_tokens: int) -> dict[str, Any] | None:
    if finish is None:
        return None
    if finish.type == "length":
        return {"type": "length", "length": num_tokens}
    if finish.type == "abort":
        return {
            "type": "abort",
            "message": finish.message,
            "status_code": finish.status_code,
            "err_type": finish.code or None,
        }
    return {"type": finish.type, "matched": finish.matched}
