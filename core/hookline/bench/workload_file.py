"""Workloads of a user's own, from a JSON file."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from hookline.bench.workloads import Workload
from hookline.errors import ConfigError


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request, or ``count`` of the same lengths."""

    output_len: int
    #: Token ids; or else so many random ones, after the shared prefix.
    prompt: list[int] | None = None
    input_len: int | None = None
    count: int = 1


class _Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    requests: list[_Request]
    #: Random tokens that all requests with an ``input_len`` begin with.
    prefix_len: int = 0
    seed: int = 0


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    workloads: list[_Workload]


def read_workloads(path: Path, vocab_size: int) -> list[Workload]:
    """The workloads of ``{"workloads": [{"name", "requests": [{"input_len" or "prompt", "output_len", "count"}],
    "prefix_len", "seed"}]}``.

    Raises ``ConfigError`` naming the place in the file that is wrong.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as exc:
        raise ConfigError(f"the workload file '{path}' cannot be read: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise ConfigError(f"the workload file '{path}' is not valid: {exc}") from exc
    if not found.workloads:
        raise ConfigError(f"the workload file '{path}' holds no workload")
    return [_make(workload, vocab_size, f"'{path}', workload '{workload.name}'") for workload in found.workloads]


def _make(workload: _Workload, vocab_size: int, where: str) -> Workload:
    rng = random.Random(workload.seed)
    low = min(64, vocab_size // 2)

    def ids(count: int) -> list[int]:
        return [rng.randrange(low, vocab_size) for _ in range(count)]

    prefix = ids(workload.prefix_len)
    prompts: list[list[int]] = []
    output_lens: list[int] = []
    for number, request in enumerate(workload.requests):
        place = f"{where}, request {number}"
        if request.output_len < 1 or request.count < 1:
            raise ConfigError(f"{place}: output_len and count must be at least 1")
        if (request.prompt is None) == (request.input_len is None):
            raise ConfigError(f"{place}: give either prompt (token ids) or input_len")
        for _ in range(request.count):
            prompts.append(prefix + ids(request.input_len) if request.input_len is not None else request.prompt or [])
            output_lens.append(request.output_len)
        _check_ids(prompts[-1], vocab_size, place)
    if not prompts:
        raise ConfigError(f"{where}: it has no requests")
    return Workload(name=workload.name, prompts=prompts, output_lens=output_lens)


def _check_ids(prompt: list[int], vocab_size: int, place: str) -> None:
    if not prompt:
        raise ConfigError(f"{place}: its prompt has no tokens")
    wrong = [token for token in prompt if not 0 <= token < vocab_size]
    if wrong:
        raise ConfigError(f"{place}: token id {wrong[0]} is outside the vocabulary of {vocab_size}")
