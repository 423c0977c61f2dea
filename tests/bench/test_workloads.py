"""Workloads: fixed sizes, repetitions that share no prefix, files of a user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hookline.bench.workload_file import read_workloads
from hookline.bench.workloads import STANDARD, first_token, standard_workloads
from hookline.errors import ConfigError

_VOCAB = 151936


def test_the_standard_four_have_their_published_sizes() -> None:
    found = standard_workloads(_VOCAB)
    assert list(found) == list(STANDARD)
    sizes = {
        name: (len(item.prompts), item.num_input_tokens, item.num_output_tokens)
        for name, item in found.items()
        if name != "mixed-256"
    }
    assert sizes == {
        "bs1-decode": (1, 128, 256),
        "prefill-64x2048": (64, 64 * 2048, 64),
        "shared-prefix-256": (256, 256 * 2176, 256 * 64),
    }
    mixed = found["mixed-256"]
    lengths = [*map(len, mixed.prompts), *mixed.output_lens]
    assert len(mixed.prompts) == 256
    assert 100 <= min(lengths) < 110
    assert 1014 < max(lengths) <= 1024
    # Figures of other engines were measured with exactly these.
    assert (mixed.num_input_tokens, mixed.num_output_tokens) == (145_270, 150_547)
    shared = found["shared-prefix-256"].prompts
    assert len({tuple(prompt[:2048]) for prompt in shared}) == 1
    assert len({tuple(prompt[2048:]) for prompt in shared}) == 256


@pytest.mark.parametrize("vocab_size", [2, 50, 97, 4096, _VOCAB])
def test_scaled_workloads_fit_any_vocabulary(vocab_size: int) -> None:
    for workload in standard_workloads(vocab_size, scale=0.02).values():
        assert workload.prompts
        assert min(map(len, workload.prompts)) >= 1
        assert min(workload.output_lens) >= 1
        for number in range(3):
            variant = workload.variant(first_token(number, vocab_size))
            tokens = {token for prompt in variant.prompts for token in prompt}
            assert 0 <= min(tokens) <= max(tokens) < vocab_size


@pytest.mark.parametrize("vocab_size", [97, _VOCAB])
def test_repetitions_share_no_prefix(vocab_size: int) -> None:
    shared = standard_workloads(vocab_size, scale=0.05)["shared-prefix-256"]
    variants = [shared.variant(first_token(number, vocab_size)) for number in range(3)]
    assert len({variant.prompts[0][0] for variant in variants}) == 3
    for variant in variants:
        assert len({tuple(prompt[:100]) for prompt in variant.prompts}) == 1


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_file_mixes_given_and_random_prompts(tmp_path: Path) -> None:
    requests = [{"input_len": 3, "output_len": 2, "count": 2}, {"prompt": [4, 5], "output_len": 1}]
    first = {"name": "a", "prefix_len": 4, "seed": 1, "requests": requests}
    path = write(tmp_path / "file", {"workloads": [first, {**first, "name": "b"}]})
    a, b = read_workloads(path, 100)
    assert (a.name, b.name) == ("a", "b")
    assert a.prompts == b.prompts
    assert [len(prompt) for prompt in a.prompts] == [7, 7, 2]
    assert a.prompts[0][:4] == a.prompts[1][:4]
    assert a.prompts[0] != a.prompts[1]
    assert (a.prompts[2], a.output_lens) == ([4, 5], [2, 2, 1])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"output_len": 1}, "give either prompt (token ids) or input_len"),
        ({"output_len": 1, "input_len": 2, "prompt": [1]}, "give either prompt (token ids) or input_len"),
        ({"output_len": 0, "input_len": 2}, "must be at least 1"),
        ({"output_len": 1, "input_len": 0}, "its prompt has no tokens"),
        ({"output_len": 1, "prompt": [1, 100]}, "token id 100 is outside the vocabulary of 100"),
        ({"output_len": 1, "input_len": 2, "colour": 1}, "unknown field `colour`"),
        ({"output_len": "x", "input_len": 2}, "$.workloads[0].requests[0].output_len"),
    ],
)
def test_a_wrong_file_is_refused_by_the_place_that_is_wrong(
    tmp_path: Path, request_: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "file", {"workloads": [{"name": "a", "requests": [request_]}]})
    with pytest.raises(ConfigError) as caught:
        read_workloads(path, 100)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_without_content_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_workloads(tmp_path / "missing", 100)
    with pytest.raises(ConfigError, match="holds no workload"):
        read_workloads(write(tmp_path / "empty", {"workloads": []}), 100)
    with pytest.raises(ConfigError, match="it has no requests"):
        read_workloads(write(tmp_path / "none", {"workloads": [{"name": "a", "requests": []}]}), 100)
