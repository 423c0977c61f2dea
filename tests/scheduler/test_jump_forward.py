"""Text that a grammar forces is appended without sampling, and nothing but the number of passes changes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hookline.messages.requests import LogprobRequest
from hookline.scheduler.jump_forward import retokenise
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.grammar_walks import allowed, environment, spell
from hookline.testkit.scheduling import EOS, Harness, Output, letter
from hookline.testkit.tokenizers import byte_level_bpe, sentencepiece_bpe
from hookline.text.tokenizer import load_tokenizer
from hookline_grammar.options import GrammarOptions
from hookline_grammar.xgrammar import XGrammarBackend
from tests.factories.fake_grammar import FAKE_GRAMMAR

#: Two forced stretches, choices before and between, a choice at the end.
PLACES = "7|8 10 11 12 13 14 20|21|22 30 31 32 33 34 35 40|41"


def run(checkpoint: Path, least: int, *, worker: dict[str, Any] | None = None, **params: Any) -> dict[str, Output]:
    """A constrained request beside two free ones."""
    options = {key: params.pop(key) for key in ("overlap", "chunk", "cache") if key in params}
    harness = Harness(
        checkpoint,
        FakeWorker(**(worker or {})),
        plugins=[FAKE_GRAMMAR],
        config={"grammar": {"grammar_jump_forward": least, "grammar_workers": 0}},
        **options,
    )
    harness.add("a", [5] * 20, params.pop("max_new_tokens", 30), **{"regex": PLACES, **params})
    harness.add("free", [6] * 9, 12)
    harness.add("other", [6] * 9 + [8], 25)
    outputs = harness.run(50_000)
    harness.assert_idle()
    return outputs


def facts(outputs: dict[str, Output]) -> dict[str, Any]:
    """What a client sees, but for how it came in pieces."""
    return {
        rid: (output.token_ids, output.finish, output.logprobs, output.stats and output.stats.completion_tokens)
        for rid, output in outputs.items()
    }


WISHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "whole": {"stream": False},
    "intervals": {"stream_interval": 5},
    "ignore_eos": {"ignore_eos": True},
    "eos": {"ignore_eos": False},
    "logprobs": {"logprobs": LogprobRequest(output=True, top=3)},
    "prompt logprobs": {"logprobs": LogprobRequest(output=True, input_start=2, top=1)},
    "stop": {"stop": letter(31) + letter(32)},
    "stop of the forced end": {"stop": letter(34)},
    "stop token": {"stop_token_ids": [33]},
    "stop token and logprobs": {"stop_token_ids": [33], "logprobs": LogprobRequest(output=True)},
    "stop and logprobs": {"stop": letter(12), "logprobs": LogprobRequest(output=True)},
    "least": {"min_new_tokens": 14},
    "cut": {"max_new_tokens": 4},
    "cut at the end of the forced text": {"max_new_tokens": 6},
    "cut with logprobs": {"max_new_tokens": 4, "logprobs": LogprobRequest(output=True)},
    "forced from the start": {"regex": "10 11 12 13 14|15"},
    "forced to the end": {"regex": "10|11 12 13 14 15 16"},
}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("overlap", [True, False])
def test_the_output_is_that_of_sampling_each_token(checkpoint: Path, overlap: bool, wish: str) -> None:
    # The fake model chooses by all tokens before, and every token has one spelling.
    sampled = run(checkpoint, 0, overlap=overlap, **WISHES[wish])
    jumped = run(checkpoint, 2, overlap=overlap, **WISHES[wish])
    assert facts(jumped) == facts(sampled)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("page_size", [1, 4])
@pytest.mark.parametrize("chunk", [None, 4])
def test_pages_and_chunks_change_nothing(checkpoint: Path, overlap: bool, page_size: int, chunk: int | None) -> None:
    worker = {"page_size": page_size}
    wish = {"logprobs": LogprobRequest(output=True, top=2)}
    sampled = run(checkpoint, 0, overlap=overlap, chunk=chunk, worker=worker, **wish)
    jumped = run(checkpoint, 2, overlap=overlap, chunk=chunk, worker=worker, **wish)
    assert facts(jumped) == facts(sampled)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_many_requests_under_a_small_pool(checkpoint: Path, overlap: bool, seed: int) -> None:
    """They are retracted, share prefixes, jump in the same step, and wait for each other's slots."""
    found = []
    for least in (0, 1 + seed % 3):
        random = Random(seed)
        harness = Harness(
            checkpoint,
            FakeWorker(max_total_tokens=120, max_running_requests=5),
            overlap=overlap,
            plugins=[FAKE_GRAMMAR],
            config={"grammar": {"grammar_jump_forward": least, "grammar_workers": 0}},
        )
        for number in range(8):
            places = []
            for _ in range(random.randint(2, 5)):
                places += ["|".join(map(str, random.sample(range(3, 90), 3)))]
                places += [str(random.randint(3, 90)) for _ in range(random.randint(0, 8))]
            wish = LogprobRequest(output=True) if random.random() < 0.5 else None
            prompt = [5] * random.randint(1, 4) + [number]
            harness.add(f"r{number}", prompt, random.randint(3, 40), regex=" ".join(places), logprobs=wish)
        found.append(facts(harness.run(50_000)))
        harness.assert_idle()
    assert found[0] == found[1]


def test_it_comes_in_one_piece_and_is_no_retraction(checkpoint: Path) -> None:
    assert max(run(checkpoint, 0)["a"].pieces) == 1
    jumped = run(checkpoint, 2)["a"]
    assert max(jumped.pieces) >= 4
    assert jumped.stats is not None
    assert jumped.stats.num_retractions == 0
    assert jumped.stats.cached_tokens == 0


def test_alone_it_takes_fewer_passes(checkpoint: Path) -> None:
    counts = []
    for least in (0, 2, 5, 6):
        config = {"grammar": {"grammar_jump_forward": least, "grammar_workers": 0}}
        harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR], config=config, overlap=False)
        harness.add("a", [5], 30, regex=PLACES)
        assert harness.run()["a"].token_ids[-1] == EOS
        counts.append(len(harness.worker.batches))
    # Of the stretches of five and six tokens all but the last are appended; six are never one less than six.
    assert counts == [15, 15 - 4 - 5, 15 - 5, 15]


def test_without_a_prefix_cache_nothing_jumps(checkpoint: Path) -> None:
    jumped = run(checkpoint, 1, cache=False)
    assert facts(jumped) == facts(run(checkpoint, 0, cache=False))
    assert max(jumped["a"].pieces) == 1


@pytest.mark.parametrize("step", range(1, 9))
def test_an_abort_in_the_middle_sends_whole_tokens(checkpoint: Path, step: int) -> None:
    harness = Harness(
        checkpoint,
        plugins=[FAKE_GRAMMAR],
        config={"grammar": {"grammar_jump_forward": 2, "grammar_workers": 0}},
        chunk=3,
    )
    harness.add("a", [5] * 4, 30, regex=PLACES, logprobs=LogprobRequest(output=True))
    harness.run_until(lambda: len(harness.outputs.get("a", Output()).token_ids) > 0, 50_000)
    for _ in range(step):
        harness.step()
    harness.abort("a")
    output = harness.run()["a"]
    assert len(output.logprobs) == len(output.token_ids)
    harness.assert_idle()


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"json": {"type": "integer"}, "question": {"enum": ["the lazy dog", "the quick fox"]}},
    "required": ["json", "question"],
    "additionalProperties": False,
}


class TestSeam:
    """Forced text is written in the tokens that the tokenizer would write."""

    @pytest.mark.parametrize("make", [byte_level_bpe, sentencepiece_bpe])
    @pytest.mark.parametrize("seed", range(8))
    def test_jumping_as_far_as_possible_gives_documents(self, tmp_path: Path, make: Any, seed: int) -> None:
        tokenizer = load_tokenizer(make(tmp_path))
        env = environment(tokenizer, options=GrammarOptions(any_whitespace=False))
        backend = XGrammarBackend(env)
        matcher = backend.compile("json_schema", json.dumps(SCHEMA)).matcher()
        random, ids = Random(seed), list[int]()
        while not matcher.is_terminated:
            text = matcher.forced_text()
            replaced, new = retokenise(tokenizer, ids, text, can_replace=True)
            before = spell(tokenizer, ids)
            if len(new) > 1 + replaced:
                matcher.rollback(replaced)
                ids = ids[: len(ids) - replaced] + new[:-1]
                assert all(map(matcher.accept_token, new[:-1]))
                assert (before + text).startswith(spell(tokenizer, ids))
            else:
                ids += random_step(env, matcher, random, len(ids))
        assert set(json.loads(spell(tokenizer, ids))) == {"json", "question"}

    def test_the_sampled_token_is_replaced_by_a_longer_one(self, tmp_path: Path) -> None:
        tokenizer = load_tokenizer(byte_level_bpe(tmp_path))
        whole = tokenizer.encode(" the lazy dog")
        first = tokenizer.token_bytes(whole[0])
        assert len(first) > 1
        sampled = tokenizer.encode(first[:1].decode())
        text = b" the lazy dog"[1:]
        assert retokenise(tokenizer, sampled, text, can_replace=True) == (1, whole)
        replaced, kept = retokenise(tokenizer, sampled, text, can_replace=False)
        assert (replaced, spell(tokenizer, kept)) == (0, text)
        # What was sent before stays, in whatever tokens it was.
        before = tokenizer.encode("x") * 6
        assert retokenise(tokenizer, before + sampled, text, can_replace=True) == (1, whole)

    def test_half_a_character_before_it_is_no_context(self, tmp_path: Path) -> None:
        tokenizer = load_tokenizer(byte_level_bpe(tmp_path))
        half = next(index for index in range(tokenizer.vocab_size) if tokenizer.token_bytes(index) == b"\xc3")
        assert retokenise(tokenizer, [half], b" lazy dog", can_replace=True)[1] == tokenizer.encode(" lazy dog")
        assert retokenise(tokenizer, [half], b"\xa9", can_replace=True) == (1, tokenizer.encode("é"))
        assert retokenise(tokenizer, [half], b"\xa9", can_replace=False) == (0, [])

    def test_letters_of_a_special_token_are_not_that_token(self, tmp_path: Path) -> None:
        tokenizer = load_tokenizer(byte_level_bpe(tmp_path))
        expected = tokenizer.encode(" dog")
        assert retokenise(tokenizer, [], b" dog<|im_end|> dog", can_replace=True) == (0, expected)


def random_step(env: Any, matcher: Any, random: Random, length: int) -> list[int]:
    """One sampled token, and the end as soon as it may come."""

    choices = allowed(matcher, env.vocab_size)
    digits = {env.tokenizer.token_id(digit) for digit in "0123456789"}
    if length > 12 and set(choices) - digits:
        choices = sorted(set(choices) - digits)
    token_id = random.choice(choices)
    assert matcher.accept_token(token_id)
    return [token_id]
