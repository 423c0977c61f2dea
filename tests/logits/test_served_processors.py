"""Logits processors named by requests of a running engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from hookline import Engine, SamplingParams
from hookline.errors import RequestError
from tests.factories.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = make_checkpoint(tmp_path_factory.mktemp("served"))
    with Engine(path, dtype="float32", max_running_requests=4) as engine:
        yield engine


def params(**processors: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_new_tokens=24, ignore_eos=True, logits_processors=processors)


def test_each_request_of_a_batch_has_its_own_processors(engine: Engine) -> None:
    prompts = [list(range(20, 30)), list(range(50, 57)), list(range(90, 99))]
    free = SamplingParams(temperature=0, max_new_tokens=24, ignore_eos=True)
    wishes = [params(allowed_tokens={"token_ids": [40, 41, 42]}), free, params(no_repeat_ngram={"size": 2})]
    allowed, plain, varied = engine.generate(input_ids=prompts, sampling_params=wishes)
    assert set(allowed.output_ids) <= {40, 41, 42}
    text = [*prompts[2], *varied.output_ids]
    pairs = list(itertools.pairwise(text))
    assert len(pairs) == len(set(pairs))
    assert plain.output_ids == engine.generate(input_ids=[prompts[1]], sampling_params=free)[0].output_ids


def test_bad_parameters_fail_the_request_and_the_engine_goes_on(engine: Engine) -> None:
    with pytest.raises(RequestError, match="'allowed_tokens' needs token_ids"):
        engine.generate(input_ids=[[20, 21]], sampling_params=params(allowed_tokens={}))
    with pytest.raises(RequestError, match="no_repeat"):
        engine.generate(input_ids=[[20, 21]], sampling_params=params(no_repeat={"size": 2}))
    assert len(engine.generate(input_ids=[[20, 21]], sampling_params=params())[0].output_ids) == 24
