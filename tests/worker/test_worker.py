"""The worker end to end on a tiny random model: parity with transformers however passes are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hookline.errors import RequestError
from hookline.platform import CpuPlatform
from hookline.sampling_params import SamplingParams
from tests.factories.checkpoints import VOCAB_SIZE
from tests.factories.worker_driver import GREEDY, DrivenRequest, WorkerDriver
from tests.factories.worker_platforms import LatePlatform, ThreadedPlatform
from tests.worker.conftest import MakeWorker

SEEDED = SamplingParams(temperature=1.0, seed=5, max_new_tokens=64)


#: None: passes run at once, in the caller's thread.
PLATFORMS: list[type[CpuPlatform] | None] = [None, ThreadedPlatform, LatePlatform]
on_all_platforms = pytest.mark.parametrize("platform", PLATFORMS, ids=["inline", "threaded", "late"])


def prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(100 * length + seed)
    return torch.randint(5, VOCAB_SIZE, (length,), generator=generator).tolist()


def greedy(reference: transformers.PreTrainedModel, ids: list[int], num_tokens: int) -> list[int]:
    """Greedy tokens of transformers; the config's EOS does not end them."""
    found = list(ids)
    with torch.inference_mode():
        cache: Any = None
        step = torch.tensor([found])
        for _ in range(num_tokens):
            out = reference(step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            found.append(int(out.logits[0, -1].argmax()))
            step = torch.tensor([[found[-1]]])
    return found[len(ids) :]


@pytest.mark.parametrize("page_size", [1, 16])
@on_all_platforms
def test_greedy_tokens_equal_those_of_transformers(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel, page_size: int, platform: type[CpuPlatform] | None
) -> None:
    worker = make_worker(platform=platform() if platform else None, cache={"page_size": page_size})
    driver = WorkerDriver(worker)
    requests = [driver.start(f"r{n}", prompt(n)) for n in (1, 7, 16, 40)]
    driver.generate(requests, 32)
    for request in requests:
        assert request.output == greedy(reference, request.prompt, 32)


@pytest.mark.parametrize("chunk", [1, 3, 16, 100])
def test_a_prompt_in_chunks_gives_the_same_tokens(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel, chunk: int
) -> None:
    driver = WorkerDriver(make_worker())
    request = driver.start("r", prompt(35))
    while request.computed < 35:
        step = driver.extend([request], [min(chunk, 35 - request.computed)])
        result = driver.read(step, [request])
        assert len(result.token_ids[0]) == (request.computed == 35)
    for _ in range(7):
        driver.read(driver.decode([request]), [request])
    assert request.output == greedy(reference, request.prompt, 8)


@on_all_platforms
def test_passes_launched_before_the_last_is_read_are_exact(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel, platform: type[CpuPlatform] | None
) -> None:
    driver = WorkerDriver(make_worker(platform=platform() if platform else None))
    requests = [driver.start("a", prompt(9)), driver.start("b", prompt(20))]
    penalised = SamplingParams(temperature=0.0, repetition_penalty=1.3, frequency_penalty=0.5)
    requests.append(driver.start("c", prompt(12), penalised))
    # Three passes are under way before the first is read: inputs and counts come from the device alone.
    steps = [driver.extend(requests), driver.decode(requests), driver.decode(requests)]
    for _ in range(12):
        steps.append(driver.decode(requests))
        driver.read(steps.pop(0), requests)
    for step in steps:
        driver.read(step, requests)
    for request in requests[:2]:
        assert request.output == greedy(reference, request.prompt, 15)

    slow = WorkerDriver(make_worker())
    alone = slow.start("c", prompt(12), penalised)
    slow.generate([alone], 15)
    assert requests[2].output == alone.output


def test_a_mixed_pass_extends_and_decodes(make_worker: MakeWorker, reference: transformers.PreTrainedModel) -> None:
    driver = WorkerDriver(make_worker())
    running = [driver.start("a", prompt(5)), driver.start("b", prompt(11))]
    driver.generate(running, 4)
    late = driver.start("c", prompt(19))
    driver.read(driver.extend([late], [12], decodes=running), [late, *running])
    assert late.output == []
    driver.read(driver.extend([late], decodes=running), [late, *running])
    for _ in range(6):
        driver.read(driver.decode([*running, late]), [*running, late])
    for request, count in ((running[0], 12), (running[1], 12), (late, 7)):
        assert request.output == greedy(reference, request.prompt, count)


def test_a_cached_prefix_comes_through_the_table(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel
) -> None:
    worker = make_worker()
    driver = WorkerDriver(worker)
    first = driver.start("a", prompt(24))
    driver.generate([first], 2)
    second = driver.start("b", [*first.prompt[:20], *prompt(6, seed=3)])
    # Its first 20 tokens are those of the other request: only their slots are sent.
    second.slots, second.computed = first.slots[:20], 20
    launch = worker.launch

    def with_table(batch: Any) -> Any:
        batch.table_rows = np.full(20, second.row)
        batch.table_cols = np.arange(20)
        batch.table_slots = np.array(first.slots[:20])
        worker.launch = launch  # type: ignore[method-assign]
        return launch(batch)

    worker.launch = with_table  # type: ignore[method-assign]
    driver.read(driver.extend([second]), [second])
    for _ in range(5):
        driver.read(driver.decode([second]), [second])
    assert second.output == greedy(reference, second.prompt, 6)


@on_all_platforms
def test_a_row_with_a_new_owner_forgets_the_old_one(
    make_worker: MakeWorker, platform: type[CpuPlatform] | None
) -> None:
    driver = WorkerDriver(make_worker(platform=platform() if platform else None))
    old = driver.start("old", prompt(6), SamplingParams(temperature=0.0, logit_bias={9: 100.0}, min_new_tokens=5))
    driver.generate([old], 3)
    assert set(old.output) == {9}
    driver.free(old)
    fresh = driver.start("new", prompt(6))
    assert fresh.row == old.row
    driver.generate([fresh], 4)
    other = WorkerDriver(make_worker())
    alone = other.start("new", prompt(6))
    other.generate([alone], 4)
    assert fresh.output == alone.output


def test_a_row_may_change_owners_while_its_last_pass_still_runs(make_worker: MakeWorker) -> None:
    # As under overlap: the wasted pass of a finished request runs after the row was given away.
    first = SamplingParams(temperature=0.9, seed=1, frequency_penalty=1.0, logit_bias={9: 3.0}, min_new_tokens=9)
    second = SamplingParams(temperature=1.1, seed=2, presence_penalty=0.5, logit_bias={8: 3.0})

    def run(platform: CpuPlatform | None, *, wait: bool) -> list[list[int]]:
        driver = WorkerDriver(make_worker(platform=platform))
        old = driver.start("old", prompt(7), first, end_ids=[3])
        steps = [driver.extend([old]), driver.decode([old]), driver.decode([old])]
        found = [step.result().token_ids[0] for step in steps] if wait else []
        driver.free(old)
        new = driver.start("new", prompt(12), second)
        assert new.row == old.row
        later = [driver.extend([new]), driver.decode([new]), driver.decode([new])]
        return [*(found or [step.result().token_ids[0] for step in steps]), *(s.result().token_ids[0] for s in later)]

    assert run(LatePlatform(), wait=False) == run(None, wait=True)


@pytest.mark.parametrize("params", [GREEDY, SEEDED, SamplingParams(temperature=1.0, presence_penalty=1.0)])
def test_a_retracted_request_goes_on_without_lost_or_repeated_tokens(
    make_worker: MakeWorker, params: SamplingParams
) -> None:
    def generate(retract_every: int) -> list[int]:
        driver = WorkerDriver(make_worker())
        request = driver.start("r", prompt(10), params)
        neighbour = driver.start("n", prompt(4), SamplingParams(temperature=1.0, top_p=0.5))
        driver.read(driver.extend([request, neighbour]), [request, neighbour])
        while len(request.output) < 14:
            if len(request.output) % retract_every == 0:
                driver.free(request)
                request = driver.start("r", request.prompt, params, output=request.output)
                driver.read(driver.extend([request]), [request])
            else:
                driver.read(driver.decode([neighbour, request]), [neighbour, request])
        return request.output

    whole = generate(100)
    assert generate(3) == whole
    assert generate(1) == whole


def test_a_seed_gives_the_same_tokens_in_any_company(make_worker: MakeWorker) -> None:
    driver = WorkerDriver(make_worker())
    alone = driver.start("alone", prompt(10), SEEDED)
    driver.generate([alone], 12)
    crowd = [driver.start(f"c{i}", prompt(3 + i), SamplingParams(temperature=0.3 * i, top_k=5)) for i in range(1, 5)]
    again = driver.start("again", prompt(10), SEEDED)
    driver.generate([*crowd[:2], again, *crowd[2:]], 12)
    assert again.output == alone.output
    choice = driver.start("choice", prompt(10), SEEDED, choice_index=1)
    driver.generate([choice], 12)
    assert choice.output != alone.output


# --- grammar masks ---


def only(tokens: list[list[int]]) -> np.ndarray[Any, np.dtype[np.int32]]:
    words = np.zeros((len(tokens), -(-VOCAB_SIZE // 32)), dtype=np.uint32)
    for row, allowed in enumerate(tokens):
        for token in allowed:
            words[row, token // 32] |= np.uint32(1 << token % 32)
    return words.view(np.int32)


def test_constrained_requests_are_sampled_when_their_masks_come(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel
) -> None:
    driver = WorkerDriver(make_worker())
    free, bound = driver.start("free", prompt(8)), driver.start("bound", prompt(13))
    requests = [free, bound]
    step = driver.extend(requests, constrained=[bound])
    mask = only([[17, 30]])
    with pytest.raises(RuntimeError, match="was not sampled"):
        step.result()
    with pytest.raises(RuntimeError, match="launched before pass 1 was sampled"):
        driver.worker.launch(step.batch)  # type: ignore[attr-defined]
    step.sample(mask)
    mask[:] = 0  # the scheduler's array is filled anew for the next pass
    following = driver.decode(requests, constrained=[bound])
    driver.read(step, requests)
    assert bound.output[0] in (17, 30)
    following.sample(only([[99]]))
    driver.read(following, requests)
    assert bound.output[1] == 99
    for _ in range(3):
        driver.read(driver.decode(requests), requests)
    assert free.output == greedy(reference, free.prompt, 5)
    assert bound.output[2:] == greedy(reference, bound.prompt + bound.output[:2], 3)


def test_masks_and_sampling_must_match(make_worker: MakeWorker) -> None:
    driver = WorkerDriver(make_worker())
    bound, free = driver.start("bound", prompt(4)), driver.start("free", prompt(5))
    step = driver.extend([bound, free], constrained=[bound])
    with pytest.raises(ValueError, match="a mask for each of 1"):
        step.sample(only([[1], [2]]))
    step.sample(only([[1]]))
    with pytest.raises(RuntimeError, match="is sampled already"):
        step.sample(only([[1]]))
    assert step.result().token_ids[0] == [1]


def test_a_mask_that_forbids_everything_fails_its_request_alone(make_worker: MakeWorker) -> None:
    driver = WorkerDriver(make_worker())
    bound, free = driver.start("bound", prompt(4)), driver.start("free", prompt(5))
    step = driver.extend([bound, free], constrained=[bound])
    step.sample(only([[]]))
    result = step.result()
    assert result.token_ids[0] == []
    assert len(result.token_ids[1]) == 1
    assert list(result.faults) == [0]
    assert "no token is left" in result.faults[0]


# --- faults ---


def test_nan_in_one_request_fails_it_alone_and_leaves_no_trace(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel
) -> None:
    worker = make_worker(cache={"page_size": 16, "kv_cache_tokens": 160})
    driver = WorkerDriver(worker)
    sick, well = driver.start("sick", prompt(8)), driver.start("well", prompt(21))
    driver.read(driver.extend([sick, well]), [sick, well])
    keys, _ = worker._kv.planes(1)
    keys[sick.slots[2]] = float("nan")
    result = driver.decode([sick, well]).result()
    assert list(result.faults) == [0]
    assert "not finite" in result.faults[0]
    well.tokens.extend(result.token_ids[1])
    # Whoever gets the slots next must not see what lies there.
    driver.free(sick)
    heirs = [driver.start(f"heir-{n}", prompt(n)) for n in (2, 18, 33)]
    driver.read(driver.extend(heirs), heirs)
    everyone = [well, *heirs]
    for _ in range(6):
        driver.read(driver.decode(everyone), everyone)
    for request in everyone:
        assert request.output == greedy(reference, request.prompt, len(request.output))


def test_settings_at_fault_fail_their_request_alone(make_worker: MakeWorker) -> None:
    driver = WorkerDriver(make_worker())
    bad = driver.start("bad", prompt(4), SamplingParams(temperature=0.0, logit_bias={VOCAB_SIZE: 1.0}))
    unknown = driver.start("unknown", prompt(4), SamplingParams(temperature=0.0, logits_processors={"nope": 1}))
    good = driver.start("good", prompt(4))
    result = driver.extend([bad, unknown, good]).result()
    assert [len(tokens) for tokens in result.token_ids] == [0, 0, 1]
    assert f"token {VOCAB_SIZE}" in result.faults[0]
    assert "unknown logits processor 'nope'" in result.faults[1]


@on_all_platforms
def test_an_error_in_a_pass_comes_from_its_result(make_worker: MakeWorker, platform: type[CpuPlatform] | None) -> None:
    driver = WorkerDriver(make_worker(platform=platform() if platform else None))
    request = driver.start("r", [VOCAB_SIZE + 7])
    step = driver.extend([request])
    with pytest.raises(IndexError):
        step.result()


def test_adapters_need_a_backend(make_worker: MakeWorker) -> None:
    worker = make_worker()
    with pytest.raises(RequestError, match="no LoRA backend"):
        worker.load_adapter(1, "a", Path("nowhere"))


# --- what the worker says of itself ---


def test_info_tells_the_scheduler_its_limits(make_worker: MakeWorker) -> None:
    info = make_worker(schedule={"max_running_requests": 7}, model={"max_model_len": 100}, cache={"page_size": 16}).info
    assert (info.max_running_requests, info.max_context_len, info.page_size) == (7, 100, 16)
    assert info.max_total_tokens == 7 * 112
    assert (info.vocab_size, info.position_planes, info.device) == (VOCAB_SIZE, 1, "cpu")
    assert list(info.memory_ledger) == ["weights", "kv", "activations", "graphs", "embeddings", "tables", "rest"]


def test_every_row_and_column_of_the_table_can_be_used(make_worker: MakeWorker) -> None:
    driver = WorkerDriver(make_worker(schedule={"max_running_requests": 3}, model={"max_model_len": 24}))
    requests = [driver.start(f"r{i}", prompt(22, seed=i)) for i in range(3)]
    assert sorted(request.row for request in requests) == [0, 1, 2]
    driver.generate(requests, 3)
    assert all(len(request.output) == 3 for request in requests)


def outputs(requests: list[DrivenRequest]) -> list[list[int]]:
    return [request.output for request in requests]


@on_all_platforms
def test_processors_see_the_exact_output_although_passes_overlap(
    make_worker: MakeWorker, platform: type[CpuPlatform] | None
) -> None:
    params = SamplingParams(temperature=0.0, logits_processors={"no_repeat_ngram": {"size": 2}})

    def run(depth: int) -> list[list[int]]:
        driver = WorkerDriver(make_worker(platform=platform() if platform else None))
        requests = [driver.start("a", prompt(6), params), driver.start("b", prompt(9)), driver.start("c", [5], params)]
        steps = [driver.extend(requests)]
        for _ in range(25):
            steps.append(driver.decode(requests))
            if len(steps) > depth:
                driver.read(steps.pop(0), requests)
        for step in steps:
            driver.read(step, requests)
        return outputs(requests)

    found = run(0)
    assert run(2) == found
    for output, ids in ((found[0], prompt(6)), (found[2], [5])):
        pairs = list(zip([*ids, *output], [*ids, *output][1:], strict=False))
        assert len(pairs) == len(set(pairs))
