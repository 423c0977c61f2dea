"""SamplingParams: what a request asks of the sampler, and the bounds of each value."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from hookline.errors import RequestError

MAX_STOP_STRINGS = 64
MAX_STOP_LENGTH = 1024
MAX_CHOICES = 128
_GREEDY_BELOW = 1e-6
#: Bound of integers that have no other: they travel and are stored in fixed width.
_MAX_INT = 2**31 - 1
_GRAMMAR_FIELDS = ("json_schema", "json_object", "regex", "ebnf", "choice", "structural_tag")
#: The source of the kind "json_object".
_ANY_OBJECT = '{"type": "object"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling settings of one request. Invalid values raise ``RequestError`` naming the field.

    Lists given for ``stop`` and the like are stored as tuples; a single string counts as a list of one.
    """

    #: Output tokens at most; ``None``: up to the end of the context.
    max_new_tokens: int | None = 128
    #: No end (EOS, stop token) before so many output tokens.
    min_new_tokens: int = 0
    #: Tokens of reasoning at most, then it is closed; 0 closes it at once. ``None``: no bound.
    max_thinking_tokens: int | None = None
    #: 0 (or below 1e-6) is greedy.
    temperature: float = 1.0
    #: Nucleus mass in (0, 1].
    top_p: float = 1.0
    #: Candidates kept; -1 is off.
    top_k: int = -1
    #: Least probability relative to the best, in [0, 1].
    min_p: float = 0.0
    #: Subtracted per occurrence in the output, in [-2, 2].
    frequency_penalty: float = 0.0
    #: Subtracted once for a token that occurs in the output, in [-2, 2].
    presence_penalty: float = 0.0
    #: Over prompt and output, as transformers does: logits < 0 are multiplied, others divided. In (0, 2].
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    stop_regex: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    #: Independent choices for one prompt.
    n: int = 1
    #: At most one of the six grammar fields. JSON schema as text.
    json_schema: str | None = None
    #: Any JSON object; ``False`` is as good as ``None``.
    json_object: bool | None = None
    regex: str | None = None
    ebnf: str | None = None
    #: The output is one of these texts.
    choice: tuple[str, ...] | None = None
    structural_tag: str | None = None
    #: Ignores the model's end-of-sequence tokens only; stop_token_ids still work.
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    #: Keep the matched stop string or token in the text.
    no_stop_trim: bool = False
    #: Token id -> value added to its logit.
    logit_bias: Mapping[int, float] | None = None
    #: The same seed gives the same choice, whatever else is in the batch.
    seed: int | None = None
    #: Send a streamed chunk every so many tokens; ``None``: the server's setting.
    stream_interval: int | None = None
    #: Name of a logits processor plugin -> its parameters.
    logits_processors: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for field in ("stop", "stop_regex"):
            _set(self, field, _strings(field, getattr(self, field)))
        _set(self, "stop_token_ids", _ids("stop_token_ids", self.stop_token_ids))
        if self.logit_bias is not None:
            _set(self, "logit_bias", _bias(self.logit_bias))
        self._check_grammars()
        self._check_lengths()
        self._check_ranges()

    def _check_grammars(self) -> None:
        if self.json_object is not None:
            if not isinstance(self.json_object, bool):
                raise RequestError(
                    f"json_object must be true or false, not {self.json_object!r:.40}", param="json_object"
                )
            _set(self, "json_object", self.json_object or None)
        if self.choice is not None:
            _set(self, "choice", _choices(self.choice))
        grammars = [name for name in _GRAMMAR_FIELDS if getattr(self, name) is not None]
        if len(grammars) > 1:
            raise RequestError(
                f"only one of {', '.join(_GRAMMAR_FIELDS)} may be given, not {' and '.join(grammars)}",
                param=grammars[1],
            )

    def _check_lengths(self) -> None:
        _integer("min_new_tokens", self.min_new_tokens, 0)
        if self.max_new_tokens is not None:
            _integer("max_new_tokens", self.max_new_tokens, 0)
            if self.min_new_tokens > self.max_new_tokens:
                raise RequestError(
                    f"min_new_tokens ({self.min_new_tokens}) must not exceed max_new_tokens ({self.max_new_tokens})",
                    param="min_new_tokens",
                )
        if self.max_thinking_tokens is not None:
            _integer("max_thinking_tokens", self.max_thinking_tokens, 0)
        _integer("n", self.n, 1, MAX_CHOICES)
        if self.stream_interval is not None:
            _integer("stream_interval", self.stream_interval, 1)
        if self.seed is not None:
            _integer("seed", self.seed, -(2**63), 2**63 - 1)

    def _check_ranges(self) -> None:
        _number("temperature", self.temperature, 0.0, None)
        _number("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _number("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _number("repetition_penalty", self.repetition_penalty, 0.0, 2.0, open_low=True)
        _integer("top_k", self.top_k, -1)
        if self.top_k == 0:
            raise RequestError("top_k must be -1 (off) or at least 1, not 0", param="top_k")

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature < _GREEDY_BELOW or self.top_k == 1

    @property
    def grammar(self) -> tuple[str, str] | None:
        """(kind, source) of the grammar that constrains the output, if any."""
        if self.json_object:
            return "json_object", _ANY_OBJECT
        if self.choice is not None:
            return "choice", json.dumps(self.choice, ensure_ascii=False)
        for kind in _GRAMMAR_FIELDS:
            source = getattr(self, kind)
            if source is not None:
                return kind, source
        return None

    def replace(self, **changes: Any) -> SamplingParams:
        """A copy with changes, checked again."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SamplingParams:
        """From a request's dictionary; unknown keys raise ``RequestError`` with the nearest name."""
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise RequestError(_unknown(key, sorted(known)), param=key)
        return cls(**values)


def _set(params: SamplingParams, name: str, value: object) -> None:
    object.__setattr__(params, name, value)


def _unknown(key: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown sampling parameter '{key}'{hint} (known: {', '.join(known)})"


def _strings(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise RequestError(f"{name} must be a string or a list of strings, not {value!r:.80}", param=name)
    if len(items) > MAX_STOP_STRINGS:
        raise RequestError(f"{name} holds {len(items)} entries; at most {MAX_STOP_STRINGS} are allowed", param=name)
    for item in items:
        if not 0 < len(item) <= MAX_STOP_LENGTH:
            raise RequestError(
                f"each entry of {name} must have 1 to {MAX_STOP_LENGTH} characters, not {len(item)}", param=name
            )
    return tuple(items)


def _choices(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, (list, tuple)) else ()
    if not items or not all(isinstance(item, str) and item for item in items):
        raise RequestError(
            f"choice must be a list of texts, at least one, and none of them empty, not {value!r:.80}", param="choice"
        )
    return tuple(dict.fromkeys(items))


def _ids(name: str, value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(_is_int(item) and item >= 0 for item in value):
        raise RequestError(f"{name} must be a list of token ids (integers from 0), not {value!r:.80}", param=name)
    return tuple(dict.fromkeys(value))


def _bias(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise RequestError(f"logit_bias must map token ids to numbers, not {value!r:.80}", param="logit_bias")
    out: dict[int, float] = {}
    for key, bias in value.items():
        try:
            token = int(key)
        except (TypeError, ValueError):
            token = -1
        if token < 0 or not _is_number(bias) or math.isnan(bias):
            raise RequestError(
                f"logit_bias must map token ids (integers from 0) to numbers, not {key!r}: {bias!r}",
                param="logit_bias",
            )
        out[token] = float(bias)
    return out


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold. JSON's integers have any size."""
    if isinstance(value, float):
        return True
    return _is_int(value) and abs(value) < 2**1023  # type: ignore[arg-type]


def _integer(name: str, value: object, low: int, high: int = _MAX_INT) -> None:
    if _is_int(value) and low <= value <= high:  # type: ignore[operator]
        return
    raise RequestError(f"{name} must be an integer from {low} to {high}, not {value!r:.40}", param=name)


def _number(name: str, value: object, low: float, high: float | None, *, open_low: bool = False) -> None:
    if _is_number(value) and math.isfinite(value):
        above = value > low if open_low else value >= low
        if above and (high is None or value <= high):
            return
    bound = f"{'more than' if open_low else 'at least'} {low:g}"
    if high is not None:
        bound += f" and at most {high:g}"
    raise RequestError(f"{name} must be a number {bound}, not {value!r:.40}", param=name)
