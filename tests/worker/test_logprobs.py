"""Log-probabilities against transformers, however passes are cut and whatever else the request asks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers

from hookline.batch.worker_batch import LogprobSpec
from hookline.interfaces.worker import TokenLogprobs
from hookline.sampling_params import SamplingParams
from tests.factories.worker_driver import GREEDY, DrivenRequest, WorkerDriver
from tests.worker.conftest import MakeWorker
from tests.worker.test_worker import prompt

WISH = LogprobSpec(output=True, top=3, token_ids=(7, 200))


@pytest.fixture
def logprobs_of(reference: transformers.PreTrainedModel) -> Any:
    """[T, V] log-softmax of transformers for the tokens that follow each of ``ids``."""

    def compute(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return torch.log_softmax(reference(torch.tensor([ids])).logits[0].float(), -1)

    return compute


def check(found: TokenLogprobs, expected_V: torch.Tensor, wish: LogprobSpec) -> None:
    close = {"abs_tol": 1e-4}
    assert math.isclose(found.logprob, float(expected_V[found.token_id]), **close)
    best = expected_V.topk(wish.top)
    assert [token for token, _ in found.top] == best.indices.tolist()
    for (_, value), expected in zip(found.top, best.values.tolist(), strict=True):
        assert math.isclose(value, expected, **close)
    assert [token for token, _ in found.chosen] == list(wish.token_ids)
    for token, value in found.chosen:
        assert math.isclose(value, float(expected_V[token]), **close)


@pytest.mark.parametrize(
    "params",
    [
        GREEDY,
        SamplingParams(temperature=0.5, seed=1, top_k=4),
        SamplingParams(temperature=2.0, seed=1, repetition_penalty=1.8, logit_bias={3: 4.0}),
    ],
)
def test_output_logprobs_are_the_models_own(make_worker: MakeWorker, logprobs_of: Any, params: SamplingParams) -> None:
    # Whatever the request does to its logits, what is reported is what the model said.
    driver = WorkerDriver(make_worker())
    wishing = driver.start("a", prompt(9), params, logprobs=WISH)
    silent = driver.start("b", prompt(5))
    only_output = driver.start("c", prompt(6), logprobs=LogprobSpec(output=True))
    requests = [silent, wishing, only_output]
    results = [driver.read(driver.extend(requests), requests)]
    for _ in range(5):
        results.append(driver.read(driver.decode(requests), requests))
    expected = logprobs_of(wishing.tokens)
    for i, result in enumerate(results):
        assert result.output_logprobs is not None
        assert result.output_logprobs[0] is None
        (found,) = result.output_logprobs[1] or []
        assert found.token_id == wishing.output[i]
        check(found, expected[len(wishing.prompt) - 1 + i], WISH)
        (plain,) = result.output_logprobs[2] or []
        assert (plain.top, plain.chosen) == ([], [])


def test_nobody_pays_for_logprobs_that_nobody_wants(make_worker: MakeWorker) -> None:
    driver = WorkerDriver(make_worker())
    request = driver.start("a", prompt(5))
    result = driver.read(driver.extend([request]), [request])
    assert result.output_logprobs is None
    assert result.input_logprobs is None


def test_greedy_logprobs_are_bit_equal_alone_and_in_a_mixed_batch(make_worker: MakeWorker) -> None:
    """Of the sampler, that is: the logits are the same bits, since the deterministic mode is on."""

    def run(neighbours: int) -> list[TokenLogprobs]:
        driver = WorkerDriver(make_worker(execution={"deterministic": True}))
        request = driver.start("a", prompt(9), logprobs=WISH)
        others = [
            driver.start(f"n{i}", prompt(4 + i), SamplingParams(temperature=1.7, top_p=0.5, frequency_penalty=1.0))
            for i in range(neighbours)
        ]
        everyone = [*others, request]
        results = [driver.read(driver.extend(everyone), everyone)]
        results += [driver.read(driver.decode(everyone), everyone) for _ in range(5)]
        return [(result.output_logprobs or [])[-1][0] for result in results]  # type: ignore[index]

    assert run(0) == run(3)


# --- prompts ---


def input_logprobs(driver: WorkerDriver, request: DrivenRequest, start: int, chunk: int) -> list[TokenLogprobs]:
    """Prompt log-probabilities from position ``start``, asked for chunk by chunk as the scheduler does."""
    found: list[TokenLogprobs] = []
    total = len(request.prompt)
    while request.computed < total:
        begin, end = request.computed, min(request.computed + chunk, total)
        request.logprobs = None
        if start < end:
            first = max(begin, start)
            request.logprobs = LogprobSpec(
                output=end == total,
                top=WISH.top,
                token_ids=WISH.token_ids,
                input_start=first - begin,
                input_targets=tuple(request.prompt[first + 1 : end + 1]),
            )
        result = driver.read(driver.extend([request], [end - begin]), [request])
        if result.input_logprobs is not None:
            found += result.input_logprobs[0] or []
    return found


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
@pytest.mark.parametrize("start", [0, 11, 29])
def test_prompt_logprobs_do_not_depend_on_chunks(
    make_worker: MakeWorker, logprobs_of: Any, start: int, chunk: int
) -> None:
    driver = WorkerDriver(make_worker())
    request = driver.start("a", prompt(30))
    found = input_logprobs(driver, request, start, chunk)
    assert [one.token_id for one in found] == request.prompt[start + 1 :]
    expected = logprobs_of(request.prompt)
    for i, one in enumerate(found):
        check(one, expected[start + i], WISH)


def test_prompt_logprobs_of_several_requests_stay_apart(make_worker: MakeWorker, logprobs_of: Any) -> None:
    driver = WorkerDriver(make_worker())
    ids = [prompt(6), prompt(300), prompt(12)]
    wishes = [
        LogprobSpec(output=False, top=1, input_start=2, input_targets=tuple(ids[0][3:])),
        # More rows than are computed at once, and another number of best tokens.
        LogprobSpec(output=True, top=4, token_ids=(9,), input_start=0, input_targets=tuple(ids[1][1:])),
        None,
    ]
    requests = [driver.start(f"r{i}", ids[i], logprobs=wishes[i]) for i in range(3)]
    running = driver.start("running", prompt(7), logprobs=LogprobSpec(output=True, top=2))
    driver.read(driver.extend([running]), [running])
    everyone = [*requests, running]
    result = driver.read(driver.extend(requests, decodes=[running]), everyone)
    assert result.input_logprobs is not None
    assert result.output_logprobs is not None
    assert result.input_logprobs[2:] == [None, None]
    for i in range(2):
        wish = wishes[i]
        assert wish is not None
        expected = logprobs_of(ids[i])
        found = result.input_logprobs[i] or []
        assert len(found) == len(wish.input_targets)
        for offset, one in enumerate(found):
            check(one, expected[(wish.input_start or 0) + offset], wish)
    assert result.output_logprobs[0] is None
    assert result.output_logprobs[2] is None
    check((result.output_logprobs[1] or [])[0], logprobs_of(ids[1])[-1], wishes[1] or WISH)
    check((result.output_logprobs[3] or [])[0], logprobs_of(running.tokens)[-2], LogprobSpec(output=True, top=2))


def test_a_prompt_without_targets_gives_an_empty_list(make_worker: MakeWorker) -> None:
    # The last chunk may hold the last prompt token alone, which nothing follows.
    driver = WorkerDriver(make_worker())
    request = driver.start("a", prompt(1), logprobs=LogprobSpec(output=False, input_start=0, input_targets=()))
    result = driver.read(driver.extend([request]), [request])
    assert result.input_logprobs == [[]]


def test_more_best_tokens_than_the_vocabulary_has_are_all_of_them(make_worker: MakeWorker) -> None:
    driver = WorkerDriver(make_worker())
    request = driver.start("a", prompt(4), logprobs=LogprobSpec(output=True, top=10_000))
    result = driver.read(driver.extend([request]), [request])
    assert result.output_logprobs is not None
    (found,) = result.output_logprobs[0] or []
    assert len(found.top) == driver.worker.info.vocab_size
    assert math.isclose(sum(math.exp(value) for _, value in found.top), 1.0, rel_tol=1e-4)
