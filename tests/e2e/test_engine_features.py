"""What a caller of the Engine relies on beyond greedy tokens: log-probabilities, penalties, stops, seeds, vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hookline import Engine, SamplingParams
from hookline.errors import RequestError
from hookline.messages.requests import LogprobRequest

CheckpointMaker = Callable[[str], Path]


@pytest.fixture(scope="module")
def engine(checkpoint: CheckpointMaker) -> Iterator[Engine]:
    with Engine(checkpoint("qwen3"), dtype="float32", chunked_prefill_size=16, check_ledger=True) as engine:
        yield engine


@pytest.fixture(scope="module")
def reference(checkpoint: CheckpointMaker) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(checkpoint("qwen3"), dtype=torch.float32).eval()


def log_softmax(model: transformers.PreTrainedModel, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), dim=-1)


def test_output_logprobs_are_those_of_the_model(engine: Engine, reference: transformers.PreTrainedModel) -> None:
    prompt = list(range(20, 60))
    wish = LogprobRequest(top=3, token_ids=(7, 9))
    for params in (SamplingParams(temperature=0, max_new_tokens=8), SamplingParams(seed=1, max_new_tokens=8)):
        output = engine.generate(input_ids=[prompt], sampling_params=params, logprobs=wish)[0]
        expected = log_softmax(reference, prompt + output.output_ids)
        assert output.logprobs is not None
        assert len(output.logprobs) == len(output.output_ids)
        for step, entry in enumerate(output.logprobs):
            row = expected[len(prompt) - 1 + step]
            assert entry.token_id == output.output_ids[step]
            assert entry.logprob == pytest.approx(row[entry.token_id].item(), abs=1e-3)
            best = row.topk(3)
            assert [token for token, _ in entry.top] == best.indices.tolist()
            assert [value for _, value in entry.top] == pytest.approx(best.values.tolist(), abs=1e-3)
            assert dict(entry.chosen) == pytest.approx({7: row[7].item(), 9: row[9].item()}, abs=1e-3)


def test_prompt_logprobs_cover_chunks_and_cached_prefixes(
    engine: Engine, reference: transformers.PreTrainedModel
) -> None:
    prompt = list(range(100, 150))
    expected = log_softmax(reference, prompt)
    params = SamplingParams(temperature=0, max_new_tokens=1)
    for start in (0, 10):
        wish = LogprobRequest(input_start=start)
        output = engine.generate(input_ids=[prompt], sampling_params=params, logprobs=wish)[0]
        entries = output.prompt_logprobs
        assert entries is not None
        assert [entry.token_id for entry in entries] == prompt[start:]
        for place, entry in enumerate(entries, start):
            if place == 0:
                assert entry.logprob is None
            else:
                assert entry.logprob == pytest.approx(expected[place - 1, prompt[place]].item(), abs=1e-3)


def test_repetition_penalty_is_that_of_transformers(engine: Engine, reference: transformers.PreTrainedModel) -> None:
    prompt = list(range(30, 70))
    params = SamplingParams(temperature=0, max_new_tokens=24, ignore_eos=True, repetition_penalty=1.4)
    output = engine.generate(input_ids=[prompt], sampling_params=params)[0]
    with torch.inference_mode():
        generate: Any = reference.generate
        expected = generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=24,
            min_new_tokens=24,
            eos_token_id=None,
            repetition_penalty=1.4,
        )
    assert output.output_ids == expected[0, len(prompt) :].tolist()


def test_penalties_survive_retraction(checkpoint: CheckpointMaker) -> None:
    prompts = [list(range(start, start + 40)) for start in (10, 60, 110, 160)]
    params = SamplingParams(
        temperature=0, max_new_tokens=48, min_new_tokens=48, repetition_penalty=1.3, frequency_penalty=0.5
    )
    with Engine(checkpoint("qwen3"), dtype="float32") as roomy:
        expected = [output.output_ids for output in roomy.generate(input_ids=prompts, sampling_params=params)]
    with Engine(
        checkpoint("qwen3"), dtype="float32", kv_cache_tokens=220, schedule_conservativeness=0.05, check_ledger=True
    ) as tight:
        outputs = tight.generate(input_ids=prompts, sampling_params=params)
        assert tight.server_state()["num_retractions_total"] > 0
    assert [output.output_ids for output in outputs] == expected


def test_a_seed_gives_the_same_text_alone_and_in_company(engine: Engine) -> None:
    prompt = list(range(40, 64))
    seeded = SamplingParams(seed=7, max_new_tokens=16, ignore_eos=True, top_p=0.9)
    alone = engine.generate(input_ids=[prompt], sampling_params=seeded)[0].output_ids
    company = [
        SamplingParams(max_new_tokens=20, top_k=3, ignore_eos=True),
        seeded,
        SamplingParams(temperature=0, max_new_tokens=9, ignore_eos=True),
    ]
    outputs = engine.generate(input_ids=[[5, 6, 7], prompt, [9] * 30], sampling_params=company)
    assert outputs[1].output_ids == alone


def test_choices_of_one_seed_differ(engine: Engine) -> None:
    params = SamplingParams(seed=3, n=4, max_new_tokens=16, ignore_eos=True)
    outputs = engine.generate(input_ids=[list(range(80, 99))], sampling_params=params)
    assert [output.choice_index for output in outputs] == [0, 1, 2, 3]
    assert len({tuple(output.output_ids) for output in outputs}) == 4


def test_a_stop_string_is_cut_and_reported(engine: Engine) -> None:
    prompt = list(range(60, 90))
    free = SamplingParams(temperature=0, max_new_tokens=40, ignore_eos=True)
    text = engine.generate(input_ids=[prompt], sampling_params=free)[0].text
    stop = text[10:13]
    cut = engine.generate(input_ids=[prompt], sampling_params=free.replace(stop=(stop,)))[0]
    assert cut.finish_reason.type == "stop"
    assert cut.finish_reason.matched == stop
    assert cut.text == text[: text.index(stop)]
    kept = engine.generate(input_ids=[prompt], sampling_params=free.replace(stop=(stop,), no_stop_trim=True))[0]
    assert kept.text.startswith(text[: text.index(stop)] + stop)


def test_a_stream_joined_is_the_whole_text(engine: Engine) -> None:
    params = SamplingParams(seed=11, max_new_tokens=40, ignore_eos=True)
    prompt = list(range(200, 230))
    whole = engine.generate(input_ids=[prompt], sampling_params=params)[0]
    chunks = list(engine.stream(input_ids=prompt, sampling_params=params))
    assert len(chunks) > 5
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [token for chunk in chunks for token in chunk.token_ids] == whole.output_ids


def test_leaving_a_stream_early_frees_everything(engine: Engine) -> None:
    stream = engine.stream(input_ids=[1, 2, 3], sampling_params=SamplingParams(max_new_tokens=400, ignore_eos=True))
    next(iter(stream))
    stream.close()
    engine.generate(input_ids=[[4, 5]], sampling_params=SamplingParams(max_new_tokens=1))
    assert engine.server_state()["num_running"] == 0


@pytest.mark.parametrize("pooling", ["LAST", "CLS", "MEAN"])
def test_vectors_are_those_of_transformers(
    pooling: str, engine: Engine, reference: transformers.PreTrainedModel
) -> None:
    prompts = [list(range(20, 57)), [9, 8, 7]]
    for _ in range(2):  # the second time the prefix cache holds the prompts
        outputs = engine.encode(input_ids=prompts, pooling=pooling)
        for prompt, output in zip(prompts, outputs, strict=True):
            with torch.inference_mode():
                hidden = reference.model(input_ids=torch.tensor([prompt])).last_hidden_state[0].float()
            picked = {"LAST": hidden[-1], "CLS": hidden[0], "MEAN": hidden.mean(dim=0)}[pooling]
            expected = torch.nn.functional.normalize(picked, dim=0)
            assert math.sqrt(sum(x * x for x in output.embedding)) == pytest.approx(1.0, abs=1e-4)
            assert torch.dot(expected, torch.tensor(output.embedding)).item() > 0.9999


def test_a_grammar_holds_in_a_mixed_batch(engine: Engine) -> None:
    free = SamplingParams(temperature=0, max_new_tokens=12, ignore_eos=True)
    bound = SamplingParams(seed=5, max_new_tokens=60, regex="(yes|no), [0-9]{3}")
    alone = engine.generate(input_ids=[[50, 51, 52]], sampling_params=free)[0].output_ids
    outputs = engine.generate(input_ids=[[50, 51, 52], [60, 61]], sampling_params=[free, bound])
    assert outputs[0].output_ids == alone
    assert outputs[1].finish_reason.type == "stop"
    word, number = outputs[1].text.split(", ")
    assert word in ("yes", "no")
    assert number.isdigit()
    assert len(number) == 3


def test_a_bad_request_names_its_fault_and_the_engine_goes_on(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"99999.* 0 to 383"):
        engine.generate(input_ids=[[1, 99999]])
    with pytest.raises(RequestError, match="512"):
        engine.generate(input_ids=[[1] * 600])
    with pytest.raises(RequestError, match="regex"):
        engine.generate(input_ids=[[1]], sampling_params=SamplingParams(regex="([a-z"))
    with pytest.raises(RequestError, match="json_schema"):
        engine.generate(input_ids=[[1]], sampling_params=SamplingParams(json_schema='{"type": 3}'))
    assert engine.generate(input_ids=[[1, 2]], sampling_params=SamplingParams(max_new_tokens=2))[0].output_ids
