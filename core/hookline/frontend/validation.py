"""Checks of one request against the model, the context and the plugins of this engine.

What ``SamplingParams`` can check by itself is checked there. Everything here raises ``RequestError``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hookline.config.model_config import ModelConfig
from hookline.errors import ContextLengthError, PluginError, RequestError
from hookline.interfaces.logits import LogitsProcessor
from hookline.messages.requests import LogprobRequest, PoolingRequest
from hookline.plugins.plan import ChosenSpec, PluginPlan
from hookline.sampling_params import SamplingParams
from hookline.text.stop_regex import StopRegex

MAX_RID_LENGTH = 256
#: It travels as an integer of fixed width.
MAX_PRIORITY = 2**31 - 1
MAX_TOP_LOGPROBS = 128
MAX_LOGPROB_TOKEN_IDS = 1024
#: (positions) x (log-probabilities at each): bounds the answer of one request to some 100 MB.
MAX_LOGPROB_ENTRIES = 4 * 1024 * 1024
MAX_GRAMMAR_CHARS = 1024 * 1024


class RequestChecks:
    """The limits of one engine."""

    def __init__(self, plan: PluginPlan, model: ModelConfig, context_len: int) -> None:
        self._plan = plan
        self._model = model
        self._context_len = context_len
        self._vocab_size = model.vocab_size
        #: Processors that a request has named, made once.
        self._processors: dict[str, LogitsProcessor] = {}

    def rid(self, rid: str) -> None:
        """A client's request id."""
        if not isinstance(rid, str) or not 0 < len(rid) <= MAX_RID_LENGTH or not rid.isprintable():
            raise RequestError(
                f"rid must be a string of 1 to {MAX_RID_LENGTH} printable characters, not {rid!r:.80}", param="rid"
            )

    def priority(self, priority: int) -> None:
        """A client's priority."""
        if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
            raise RequestError(
                f"priority must be an integer from -{MAX_PRIORITY} to {MAX_PRIORITY}, not {priority!r:.40}",
                param="priority",
            )

    def token_ids(self, ids: Sequence[int], field: str) -> None:
        """Ids within the model's vocabulary."""
        # Prompts are long: what is right is seen without a loop in Python.
        if not ids or (set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) < self._vocab_size):
            return
        for item in ids:
            if type(item) is not int:
                raise RequestError(f"{field} must hold integers, not {item!r:.40}", param=field)
            if not 0 <= item < self._vocab_size:
                raise RequestError(
                    f"{field} holds {item}, but this model's token ids go from 0 to {self._vocab_size - 1}",
                    param=field,
                )

    def length(self, num_tokens: int, *, needs_room: bool) -> None:
        """A prompt of ``num_tokens``; ``needs_room`` for at least one output token."""
        if num_tokens == 0:
            raise RequestError("the prompt is empty; give at least one token", param="prompt")
        limit = self._context_len - 1 if needs_room else self._context_len
        if num_tokens > limit:
            raise ContextLengthError(
                f"the prompt has {num_tokens} tokens, but the context has {self._context_len}"
                f"{', and at least one must be left for the output' if needs_room else ''}; shorten the prompt",
                param="prompt",
            )

    def fit_output(self, params: SamplingParams, prompt_len: int) -> SamplingParams:
        """``params`` with ``max_new_tokens`` cut at the end of the context, as SGLang does."""
        room = self._context_len - prompt_len
        wish = params.max_new_tokens
        limit = room if wish is None else min(wish, room)
        if limit == wish:
            return params
        return params.replace(max_new_tokens=limit, min_new_tokens=min(params.min_new_tokens, limit))

    def sampling(self, params: SamplingParams) -> None:
        """What needs the vocabulary or the plugins."""
        self.token_ids(params.stop_token_ids, "stop_token_ids")
        if params.logit_bias:
            self.token_ids(tuple(params.logit_bias), "logit_bias")
        for pattern in params.stop_regex:
            StopRegex(pattern)
        if params.grammar is not None:
            self._grammar(*params.grammar)
        for name, wish in (params.logits_processors or {}).items():
            self._processor(name).validate(wish, self._vocab_size)

    def logprobs(self, wish: LogprobRequest, prompt_len: int, params: SamplingParams) -> None:
        """What log-probabilities may be asked for."""
        if not 0 <= wish.top <= MAX_TOP_LOGPROBS:
            raise RequestError(
                f"the number of top log-probabilities must be from 0 to {MAX_TOP_LOGPROBS}, not {wish.top}",
                param="top_logprobs",
            )
        if len(wish.token_ids) > MAX_LOGPROB_TOKEN_IDS:
            raise RequestError(
                f"log-probabilities of {len(wish.token_ids)} token ids were asked for; "
                f"at most {MAX_LOGPROB_TOKEN_IDS} are allowed",
                param="token_ids_logprob",
            )
        self.token_ids(wish.token_ids, "token_ids_logprob")
        start = wish.input_start
        if start is not None and not 0 <= start <= prompt_len:
            raise RequestError(
                f"prompt log-probabilities must start from 0 to the prompt's {prompt_len} tokens, not at {start}",
                param="logprob_start_len",
            )
        positions = (0 if start is None else prompt_len - start) + (params.max_new_tokens or 0)
        entries = positions * (1 + wish.top + len(wish.token_ids))
        if entries > MAX_LOGPROB_ENTRIES:
            raise RequestError(
                f"{entries} log-probabilities were asked for at once (limit {MAX_LOGPROB_ENTRIES}); "
                "ask for fewer tokens or fewer of them at each",
                param="logprobs",
            )

    def pooling(self, wish: PoolingRequest) -> PoolingRequest:
        """``wish`` with the pooler's name filled in."""
        models = self._plan.of_kind("models")
        if models and "embedding" not in models[0].features:
            raise RequestError(f"the model '{models[0].name}' does not make embeddings")
        own = self._model.pooling.pooling if self._model.pooling else "last"
        name = own if wish.pooling is None else wish.pooling.lower()
        known = [spec.name for spec in self._plan.of_kind("poolers")]
        if name not in known:
            raise RequestError(
                f"unknown pooling '{wish.pooling or name}' (known: {', '.join(sorted(known)) or 'none'})",
                param="pooling",
            )
        if wish.dimensions is not None:
            self._dimensions(wish.dimensions)
        return PoolingRequest(pooling=name, normalize=wish.normalize, dimensions=wish.dimensions)

    def _dimensions(self, wish: int) -> None:
        sizes = self._model.matryoshka_dimensions
        if not self._model.is_matryoshka:
            raise RequestError(
                f"this model's embeddings cannot be shortened; leave dimensions out ({self._model.hidden_size})",
                param="dimensions",
            )
        if type(wish) is not int or not 1 <= wish <= self._model.hidden_size or (sizes and wish not in sizes):
            allowed = f"one of {sorted(sizes)}" if sizes else f"from 1 to {self._model.hidden_size}"
            raise RequestError(f"dimensions must be {allowed}, not {wish}", param="dimensions")

    def _grammar(self, kind: str, source: str) -> None:
        backends = self._plan.of_kind("grammar_backends")
        if not backends:
            raise RequestError(
                f"{kind} is not available: this server runs without a grammar backend (grammar_backend)", param=kind
            )
        if not any(kind in spec.details.get("kinds", []) for spec in backends):
            raise RequestError(self._no_backend_for(kind, backends), param=kind)
        if not isinstance(source, str):
            raise RequestError(f"{kind} must be text, not {type(source).__name__}", param=kind)
        if len(source) > MAX_GRAMMAR_CHARS:
            raise RequestError(
                f"{kind} has {len(source)} characters; at most {MAX_GRAMMAR_CHARS} are allowed", param=kind
            )
        if kind == "json_schema":
            _check_schema(source)

    def _no_backend_for(self, kind: str, backends: Sequence[ChosenSpec]) -> str:
        loaded = "; ".join(f"'{spec.name}': {', '.join(spec.details.get('kinds', [])) or 'none'}" for spec in backends)
        able = [spec.name for spec in self._plan.spare if kind in spec.details.get("kinds", [])]
        way_out = f"; installed too, and able: {', '.join(able)} (grammar.grammar_backend)" if able else ""
        return f"{kind} is not supported by the grammar backends of this server ({loaded}){way_out}"

    def _processor(self, name: str) -> LogitsProcessor:
        if name not in self._processors:
            try:
                spec = self._plan.named("logits_processors", name)
            except PluginError as exc:
                raise RequestError(str(exc), param="logits_processors") from exc
            self._processors[name] = self._plan.load(spec)()
        return self._processors[name]


def _check_schema(source: str) -> Any:
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError) as exc:
        raise RequestError(f"json_schema is not valid JSON: {exc}", param="json_schema") from exc
    if not isinstance(schema, (dict, bool)):
        raise RequestError(f"json_schema must be a JSON object, not {type(schema).__name__}", param="json_schema")
    return schema
