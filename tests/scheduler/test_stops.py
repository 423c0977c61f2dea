"""When a request ends, and with which reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.messages.outputs import FinishReason
from hookline.messages.requests import CacheNamespace, TokenizedRequest
from hookline.sampling_params import SamplingParams
from hookline.scheduler.req import Req
from hookline.scheduler.stops import StopChecker, StopTexts
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.scheduling import EOS, VOCAB_SIZE, Harness, letter
from hookline.text.tokenizer import load_tokenizer

OUTPUT = expected_output([5, 6], 20, VOCAB_SIZE)
TEXT = "".join(letter(token) for token in OUTPUT)


def make_req(checkpoint: Path, max_new_tokens: int = 10, **params: object) -> Req:
    request = TokenizedRequest(
        rid="a",
        input_ids=[5, 6],
        sampling_params=SamplingParams(max_new_tokens=max_new_tokens, **params),  # type: ignore[arg-type]
    )
    req = Req(
        request=request,
        arrival=0,
        priority=0,
        max_new_tokens=max_new_tokens,
        page_size=1,
        end_ids=frozenset(request.sampling_params.stop_token_ids) | (set() if params.get("ignore_eos") else {EOS}),
        namespace=CacheNamespace(),
    )
    req.stop_text = StopTexts(lambda: load_tokenizer(checkpoint)).for_request(request)
    return req


def append(req: Req, *token_ids: int) -> FinishReason | None:
    return StopChecker(VOCAB_SIZE).append(req, token_ids)


def test_the_text_of_the_fake_model_is_what_these_tests_think(checkpoint: Path) -> None:
    assert load_tokenizer(checkpoint).decode(OUTPUT) == TEXT
    assert len(set(TEXT)) > 10


def test_a_stop_on_the_last_allowed_token_is_a_stop(checkpoint: Path) -> None:
    for params, last, matched in (
        ({}, EOS, EOS),
        ({"stop_token_ids": [9]}, 9, 9),
        ({"stop": letter(8)}, 8, letter(8)),
        ({"stop_regex": "[" + letter(8) + "x]"}, 8, letter(8)),
    ):
        req = make_req(checkpoint, 3, **params)
        assert append(req, 30, 31) is None
        assert append(req, last) == FinishReason(type="stop", matched=matched)


def test_length_ends_a_request_without_a_stop(checkpoint: Path) -> None:
    req = make_req(checkpoint, 3)
    assert append(req, 30, 31) is None
    assert append(req, 32) == FinishReason(type="length")


def test_ignore_eos_ignores_eos_only(checkpoint: Path) -> None:
    req = make_req(checkpoint, ignore_eos=True, stop_token_ids=[9])
    assert append(req, EOS, EOS) is None
    assert append(req, 9) == FinishReason(type="stop", matched=9)


def test_no_end_token_counts_before_min_new_tokens(checkpoint: Path) -> None:
    req = make_req(checkpoint, min_new_tokens=2)
    assert append(req, EOS, EOS) is None
    assert append(req, EOS) == FinishReason(type="stop", matched=EOS)


@pytest.mark.parametrize("ends", [EOS, 40])
def test_of_several_tokens_those_after_the_end_are_dropped(checkpoint: Path, ends: int) -> None:
    """A step may bring several tokens; the first end cuts them."""
    req = make_req(checkpoint, stop=letter(40))
    reason = append(req, 30, ends, 31, 32)
    assert reason is not None
    assert reason.type == "stop"
    assert req.output_ids == [30, ends]


def test_of_several_tokens_only_the_allowed_number_is_taken(checkpoint: Path) -> None:
    req = make_req(checkpoint, 3)
    assert append(req, 30, 31, 32, 33) == FinishReason(type="length")
    assert req.output_ids == [30, 31, 32]


def test_a_stop_string_is_found_over_tokens_and_steps(checkpoint: Path) -> None:
    req = make_req(checkpoint, 10, stop=[letter(30) + letter(31) + letter(32), "nothing"])
    assert append(req, 31, 30) is None
    assert append(req, 31) is None
    assert append(req, 32) == FinishReason(type="stop", matched=letter(30) + letter(31) + letter(32))


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE])
def test_a_token_outside_the_vocabulary_ends_the_request(checkpoint: Path, token_id: int) -> None:
    req = make_req(checkpoint)
    reason = append(req, 30, token_id)
    assert reason is not None
    assert (reason.type, reason.status_code) == ("abort", 500)
    assert req.output_ids == [30]


# --- in the scheduler ---


@pytest.mark.parametrize("overlap", [True, False])
def test_stop_strings_end_a_request_and_usage_is_exact(checkpoint: Path, overlap: bool) -> None:
    harness = Harness(checkpoint, overlap=overlap)
    stop = TEXT[7:9]
    harness.add("a", [5, 6], 20, stop=stop)
    harness.add("b", [5, 6], 20, stop_regex=f"[{stop[0]}].")
    outputs = harness.run()
    for rid in ("a", "b"):
        assert outputs[rid].token_ids == OUTPUT[: TEXT.index(stop) + 2]
        assert outputs[rid].finish == FinishReason(type="stop", matched=stop)
        stats = outputs[rid].stats
        assert stats is not None
        assert stats.completion_tokens == TEXT.index(stop) + 2
    harness.assert_idle()


def test_a_bad_stop_regex_is_refused(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, 6], stop_regex="([a-z")
    finish = harness.run()["a"].finish
    assert finish is not None
    assert finish.status_code == 400


def test_without_a_tokenizer_stop_strings_are_refused_and_stop_tokens_work(checkpoint: Path) -> None:
    harness = Harness(checkpoint, config={"model": {"skip_tokenizer_init": True}})
    harness.add("text", [5, 6], stop="x")
    harness.add("token", [5, 6], 20, stop_token_ids=[OUTPUT[3]])
    outputs = harness.run()
    finish = outputs["text"].finish
    assert finish is not None
    assert finish.status_code == 400
    assert "skip_tokenizer_init" in finish.message
    assert outputs["token"].token_ids == OUTPUT[: OUTPUT.index(OUTPUT[3]) + 1]
