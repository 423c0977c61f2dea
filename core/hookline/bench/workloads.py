"""Workload: token-id prompts with output lengths, made from a seed.

Two families. The standard four (``STANDARD``) have fixed sizes, so that figures of different engines and machines
compare; every engine that draws them from the same vocabulary gets the same tokens. The shapes (``SHAPES``) take
their sizes from the caller.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

#: The name of each standard workload -> what it is.
STANDARD = {
    "bs1-decode": "one request, 128 tokens in, 256 out",
    "mixed-256": "256 requests, 100 to 1,024 tokens in and out, evenly spread",
    "prefill-64x2048": "64 requests, 2,048 tokens in, 1 out",
    "shared-prefix-256": "256 requests, 2,048 shared and 128 own tokens in, 64 out",
}
#: The name of each shape -> what it is.
SHAPES = {
    "single": "one request",
    "mixed": "requests of uneven lengths, evenly spread from a tenth of the longest up",
    "heavy-tailed": "requests of uneven lengths, many short and few long (log-uniform from a 32nd of the longest up)",
    "shared-prefix": "requests that share one long prefix",
}

#: Ids that the standard workloads draw from, where the vocabulary has them.
_LOW, _HIGH = 1000, 150_000
#: First tokens of repetitions of the standard workloads: beyond what prompts are drawn from.
_FIRST = 151_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompts and how many tokens each is to generate (greedy, end tokens ignored)."""

    name: str
    prompts: list[list[int]]
    output_lens: list[int]

    @property
    def num_input_tokens(self) -> int:
        return sum(len(prompt) for prompt in self.prompts)

    @property
    def num_output_tokens(self) -> int:
        return sum(self.output_lens)

    def variant(self, first_token: int) -> Workload:
        """The same shape with another first token, so that a repetition meets no cached prefix of the last, while
        its requests still share what they share."""
        prompts = [[first_token, *prompt[1:]] for prompt in self.prompts]
        return Workload(name=self.name, prompts=prompts, output_lens=self.output_lens)


def first_token(number: int, vocab_size: int) -> int:
    """The first token of repetition ``number`` (from 0)."""
    if _FIRST + number < vocab_size:
        return _FIRST + number
    # The lowest ids: workloads draw theirs from higher up.
    return 1 + number % (_low(vocab_size) - 1) if _low(vocab_size) > 1 else 0


def standard_workloads(vocab_size: int, *, scale: float = 1.0) -> dict[str, Workload]:
    """The four of ``STANDARD``, by name. ``scale`` multiplies numbers of requests and lengths, each at least 1."""
    rng = random.Random(0)
    low, high = (_LOW, _HIGH) if vocab_size > _HIGH else (_low(vocab_size), vocab_size)

    def sized(count: int) -> int:
        return max(1, round(count * scale))

    def ids(count: int) -> list[int]:
        return [rng.randrange(low, high) for _ in range(sized(count))]

    # One generator for all, in this order: the lengths of the mixed workload are part of its definition.
    mixed_prompts, mixed_lens = [], []
    for _ in range(sized(256)):
        mixed_prompts.append(ids(rng.randint(100, 1024)))
        mixed_lens.append(sized(rng.randint(100, 1024)))
    prefix = ids(2048)
    single = ids(128)
    prefill = [ids(2048) for _ in range(sized(64))]
    shared = [prefix + ids(128) for _ in range(sized(256))]
    found = [
        Workload(name="bs1-decode", prompts=[single], output_lens=[sized(256)]),
        Workload(name="mixed-256", prompts=mixed_prompts, output_lens=mixed_lens),
        Workload(name="prefill-64x2048", prompts=prefill, output_lens=[1] * len(prefill)),
        Workload(name="shared-prefix-256", prompts=shared, output_lens=[sized(64)] * len(shared)),
    ]
    return {workload.name: workload for workload in found}


def make_workload(
    shape: str, *, num_requests: int, input_len: int, output_len: int, prefix_len: int, vocab_size: int, seed: int
) -> Workload:
    """A workload of a shape in ``SHAPES``. Uneven lengths reach up to the given ones."""
    rng = random.Random(seed)
    low = _low(vocab_size)

    def ids(count: int) -> list[int]:
        return [rng.randrange(low, vocab_size) for _ in range(count)]

    if shape == "single":
        return Workload(name=shape, prompts=[ids(input_len)], output_lens=[output_len])
    if shape == "mixed":
        ins = [rng.randint(max(1, input_len // 10), input_len) for _ in range(num_requests)]
        outs = [rng.randint(max(1, output_len // 10), output_len) for _ in range(num_requests)]
        return Workload(name=shape, prompts=[ids(n) for n in ins], output_lens=outs)
    if shape == "heavy-tailed":
        ins = [_log_uniform(rng, input_len) for _ in range(num_requests)]
        outs = [_log_uniform(rng, output_len) for _ in range(num_requests)]
        return Workload(name=shape, prompts=[ids(n) for n in ins], output_lens=outs)
    if shape == "shared-prefix":
        prefix = ids(prefix_len)
        prompts = [prefix + ids(input_len) for _ in range(num_requests)]
        return Workload(name=shape, prompts=prompts, output_lens=[output_len] * num_requests)
    raise ValueError(f"unknown workload '{shape}' (known: {', '.join(SHAPES)})")


def _low(vocab_size: int) -> int:
    """The least id that prompts are drawn from."""
    return min(64, vocab_size // 2)


def _log_uniform(rng: random.Random, longest: int) -> int:
    """A length from a 32nd of ``longest`` up to it, each doubling as likely as the next."""
    return max(1, round(longest * math.pow(32, -rng.random())))
