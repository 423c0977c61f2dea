"""Workload: token-id prompts with output lengths, made from a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

#: The name of each shape -> what it is, for --help.
SHAPES = {
    "single": "one request",
    "mixed": "requests of uneven lengths, evenly spread from a tenth of the longest up",
    "heavy-tailed": "requests of uneven lengths, many short and few long (log-uniform from a 32nd of the longest up)",
    "shared-prefix": "requests that share one long prefix",
}


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
        """The same shape with another first token, so that a repetition meets no cached prefix of the last."""
        prompts = [[first_token, *prompt[1:]] for prompt in self.prompts]
        return Workload(name=self.name, prompts=prompts, output_lens=self.output_lens)


def make_workload(
    shape: str, *, num_requests: int, input_len: int, output_len: int, prefix_len: int, vocab_size: int, seed: int
) -> Workload:
    """A workload of a shape in ``SHAPES``. Uneven lengths reach up to the given ones."""
    rng = random.Random(seed)
    low = min(64, vocab_size // 2)

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


def _log_uniform(rng: random.Random, longest: int) -> int:
    """A length from a 32nd of ``longest`` up to it, each doubling as likely as the next."""
    return max(1, round(longest * math.pow(32, -rng.random())))
