"""Constrained throughput: requests with a schema each, compilation included, against the same tokens without."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from hookline.sampling_params import SamplingParams

if TYPE_CHECKING:
    from hookline.engine import Engine

#: Prompt tokens; the schemas are what is measured.
_PROMPT_LEN = 16


@dataclass(slots=True, kw_only=True)
class GrammarThroughput:
    """Seconds and output tokens of each repetition, a warm-up first."""

    constrained: list[float] = field(default_factory=list)
    free: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    #: Microseconds of the scheduler's stages for each pass, of the last repetition: with grammars, and without.
    constrained_stages: dict[str, float] = field(default_factory=dict)
    free_stages: dict[str, float] = field(default_factory=dict)
    #: Documents that ended, of all repetitions.
    num_ended: int = 0

    @property
    def ratios(self) -> list[float]:
        """Constrained over unconstrained output tokens per second, the warm-up apart."""
        return [free / held for held, free in zip(self.constrained[1:], self.free[1:], strict=True)]


def schema_of(number: int) -> dict[str, Any]:
    """A schema as tool calls have them; no two are the same, nor are their parts."""
    names = {key: f"{key}_{number}" for key in ("name", "kind", "count", "tags", "place", "notes")}
    properties: dict[str, Any] = {
        names["name"]: {"type": "string", "maxLength": 12 + number % 20},
        names["kind"]: {"enum": [f"{word}-{number}" for word in ("small", "large", "round", "flat")]},
        names["count"]: {"type": "integer"},
        names["tags"]: {"type": "array", "items": {"type": "string"}, "maxItems": 3 + number % 5},
        names["place"]: {
            "type": "object",
            "properties": {f"x{number}": {"type": "number"}, f"y{number}": {"type": "number"}},
            "required": [f"x{number}", f"y{number}"],
            "additionalProperties": False,
        },
        names["notes"]: {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "boolean"}]}},
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def measure_grammars(
    engine: Engine, *, num_requests: int, output_len: int, repetitions: int, seed: int = 0
) -> GrammarThroughput:
    """Each repetition has new schemas, and runs its requests constrained, then free with the lengths that came out.

    Raises ``RuntimeError`` if a document that ended is none.
    """
    random, found = Random(seed), GrammarThroughput()
    for repetition in range(repetitions + 1):
        numbers = range(repetition * num_requests, (repetition + 1) * num_requests)
        held = [
            SamplingParams(max_new_tokens=output_len, seed=number, json_schema=json.dumps(schema_of(number)))
            for number in numbers
        ]
        before = engine.server_state()
        started = time.perf_counter()
        outputs = engine.generate(input_ids=_prompts(random, num_requests, engine.vocab_size), sampling_params=held)
        found.constrained.append(time.perf_counter() - started)
        between = engine.server_state()
        found.constrained_stages = _stages(before, between)
        for output in outputs:
            if output.finish_reason.type == "stop":
                found.num_ended += 1
                _check(output.text)
        lengths = [len(output.output_ids) for output in outputs]
        found.tokens.append(sum(lengths))
        free = [
            SamplingParams(max_new_tokens=length, seed=number, ignore_eos=True)
            for number, length in zip(numbers, lengths, strict=True)
        ]
        started = time.perf_counter()
        engine.generate(input_ids=_prompts(random, num_requests, engine.vocab_size), sampling_params=free)
        found.free.append(time.perf_counter() - started)
        found.free_stages = _stages(between, engine.server_state())
    return found


def _stages(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Microseconds of each stage for a pass between two states, and the number of passes."""
    passes = after["steps_total"] - before["steps_total"]
    first, last = before["stage_seconds"], after["stage_seconds"]
    return {"passes": passes, **{name: round(1e6 * (last[name] - first[name]) / max(passes, 1), 1) for name in last}}


def _prompts(random: Random, count: int, vocab_size: int) -> list[list[int]]:
    """No two share a prefix, and none was seen before."""
    return [[random.randrange(vocab_size) for _ in range(_PROMPT_LEN)] for _ in range(count)]


def _check(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as exc:
        raise RuntimeError(f"a constrained answer is no JSON document: {text!r:.200}") from exc
