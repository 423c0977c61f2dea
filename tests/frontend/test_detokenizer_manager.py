"""DetokenizerManager: joined deltas are the text, whatever the splits, flags and stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.frontend.detokenizer_manager import DetokenizerManager
from hookline.messages.outputs import (
    BatchTextOutput,
    BatchTokenOutput,
    DetokenizeStart,
    FinishReason,
    RequestStats,
    TokenLogprob,
)
from hookline.testkit.tokenizers import byte_level_bpe, sentencepiece_bpe
from hookline.text.incremental import incremental_detokenizer
from hookline.text.stops import StopMatcher
from hookline.text.tokenizer import Tokenizer, load_tokenizer

LENGTH = FinishReason(type="length")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    return {
        "byte_level_bpe": load_tokenizer(byte_level_bpe(Path(tmp_path_factory.mktemp("bytes")))),
        "sentencepiece_bpe": load_tokenizer(sentencepiece_bpe(Path(tmp_path_factory.mktemp("pieces")))),
    }


@pytest.fixture
def tokenizer(tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers["byte_level_bpe"]


@dataclass
class Output:
    """One request's output as the scheduler sends it."""

    start: DetokenizeStart
    token_ids: list[int]
    finish: FinishReason


def start(rid: str = "r", **flags: Any) -> DetokenizeStart:
    return DetokenizeStart(rid=rid, prompt_tail=[], **flags)


def send(
    manager: DetokenizerManager,
    rids: list[str],
    token_ids: list[list[int]],
    finish: Sequence[FinishReason | None] = (),
    starts: list[DetokenizeStart] | None = None,
) -> BatchTextOutput:
    stats = [RequestStats(prompt_tokens=1, cached_tokens=0, completion_tokens=len(ids)) for ids in token_ids]
    return manager.process(
        BatchTokenOutput(
            rids=rids,
            token_ids=token_ids,
            finish_reasons=[*finish] or [None] * len(rids),
            stats=stats,
            starts=starts or [],
        )
    )


def texts_of(tokenizer: Tokenizer, output: Output, cuts: list[int]) -> list[str]:
    """Deltas of one request whose tokens arrive in parts that end at ``cuts``."""
    manager = DetokenizerManager(tokenizer)
    bounds = sorted({cut for cut in cuts if 0 < cut < len(output.token_ids)})
    parts = [output.token_ids[a:b] for a, b in zip([0, *bounds], [*bounds, len(output.token_ids)], strict=True)]
    texts = []
    for index, part in enumerate(parts):
        finish = output.finish if index == len(parts) - 1 else None
        texts += send(manager, ["r"], [part], [finish], [output.start] if index == 0 else []).texts
    assert manager.num_live == 0
    return texts


def schedule(tokenizer: Tokenizer, token_ids: list[int], start: DetokenizeStart) -> Output:
    """What the scheduler would send: it ends the output at the first stop in the text with special tokens."""
    detokenizer = incremental_detokenizer(tokenizer, start.prompt_tail, skip_special_tokens=False)
    matcher = StopMatcher(start.stop, start.stop_regex)
    for index, token_id in enumerate(token_ids):
        match = matcher.feed(detokenizer.push(token_id))
        if match is not None:
            return Output(start, token_ids[: index + 1], FinishReason(type="stop", matched=match.stop))
    return Output(start, token_ids, LENGTH)


# --- the property that matters ---

WORDS = [
    "the ",
    "be",
    "é",
    "漢字",
    "👩‍👩‍👧",
    "\n",
    "\ufffd",
    "<|im_end|>",
    "<tool>",
    "ab",
    "a",
    "b",
    "</s>",
    "<s>",
    " ",
]
STOPS = st.lists(
    st.sampled_from(["ab", "be the", "é漢", "👩", "b<|im_end|>a", "<tool>", "</s>a", "zzz", "\n\n"]), max_size=3
)
REGEXES = st.lists(st.sampled_from([r"b+e", r"\n+the", r"<.*>b", "漢.", "(?<=a)b"]), max_size=2)


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
@given(
    words=st.lists(st.sampled_from(WORDS), max_size=20),
    noise=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 300)), max_size=4),
    cuts=st.lists(st.integers(1, 60), max_size=20),
    stop=STOPS,
    stop_regex=REGEXES,
    flags=st.fixed_dictionaries({"skip_special_tokens": st.booleans(), "no_stop_trim": st.booleans()}),
)
@settings(deadline=None)
def test_joined_deltas_equal_the_text_sent_at_once(
    tokenizers: dict[str, Tokenizer],
    kind: str,
    words: list[str],
    noise: list[tuple[int, int]],
    cuts: list[int],
    stop: list[str],
    stop_regex: list[str],
    flags: dict[str, Any],
) -> None:
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode("".join(words), add_special_tokens=False)
    for place, token_id in noise:
        # Single bytes and special tokens anywhere: most are no text.
        ids.insert(min(place, len(ids)), token_id)
    output = schedule(tokenizer, ids, start(stop=tuple(stop), stop_regex=tuple(stop_regex), **flags))
    whole = texts_of(tokenizer, output, [])
    assert len(whole) == 1
    assert "".join(texts_of(tokenizer, output, cuts)) == whole[0]
    assert "".join(texts_of(tokenizer, output, list(range(100)))) == whole[0]
    if not stop and not stop_regex and kind == "byte_level_bpe":
        assert whole[0] == tokenizer.decode(ids, skip_special_tokens=flags["skip_special_tokens"])


@given(
    words=st.lists(st.sampled_from(WORDS), max_size=20),
    stop=STOPS.filter(bool),
    keeps=st.booleans(),
)
@settings(deadline=None)
def test_text_ends_at_the_first_stop(
    tokenizers: dict[str, Tokenizer], words: list[str], stop: list[str], keeps: bool
) -> None:
    tokenizer = tokenizers["byte_level_bpe"]
    ids = tokenizer.encode("".join(words))
    output = schedule(tokenizer, ids, start(stop=tuple(stop), no_stop_trim=keeps, skip_special_tokens=False))
    text = "".join(texts_of(tokenizer, output, list(range(100))))
    whole = tokenizer.decode(ids)
    assert whole.startswith(text)
    if output.finish is LENGTH:
        assert text == whole
        assert not any(string in whole for string in stop)
    elif keeps:
        assert any(text.endswith(string) for string in stop)
    else:
        assert not any(string in text for string in stop)
        assert any(whole.startswith(string, len(text)) for string in stop)


# --- single behaviours ---


def test_requests_keep_their_own_flags_in_one_batch(tokenizer: Tokenizer) -> None:
    manager = DetokenizerManager(tokenizer)
    ids = tokenizer.encode("a<|im_end|>b")
    starts = [start("show", skip_special_tokens=False), start("hide", skip_special_tokens=True)]
    output = send(manager, ["show", "hide"], [ids, ids], [LENGTH, LENGTH], starts)
    assert output.texts == ["a<|im_end|>b", "ab"]


def test_the_prompt_gives_context(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["sentencepiece_bpe"]
    the = tokenizer.token_id("▁the")
    assert the is not None
    manager = DetokenizerManager(tokenizer)
    starts = [DetokenizeStart(rid="a", prompt_tail=[the]), DetokenizeStart(rid="b", prompt_tail=[])]
    assert send(manager, ["a", "b"], [[the], [the]], starts=starts).texts == [" the", "the"]


def test_columns_pass_through(tokenizer: Tokenizer) -> None:
    manager = DetokenizerManager(tokenizer)
    logprobs: list[list[TokenLogprob] | None] = [[TokenLogprob(-0.5, 7)]]
    message = BatchTokenOutput(
        rids=["r"],
        token_ids=[[7]],
        finish_reasons=[LENGTH],
        stats=[RequestStats(3, 2, 1)],
        starts=[start()],
        output_logprobs=logprobs,
        input_logprobs=[None],
    )
    output = manager.process(message)
    assert (output.rids, output.token_ids, output.finish_reasons) == (["r"], [[7]], [LENGTH])
    assert (output.stats, output.output_logprobs, output.input_logprobs) == (message.stats, logprobs, [None])


@pytest.mark.parametrize(("keeps", "expected"), [(False, "hello"), (True, "hello<tool>")])
def test_a_stop_token_is_trimmed_by_its_id(tokenizer: Tokenizer, keeps: bool, expected: str) -> None:
    tool = tokenizer.token_id("<tool>")
    assert tool is not None
    output = Output(
        start(no_stop_trim=keeps), [*tokenizer.encode("hello"), tool], FinishReason(type="stop", matched=tool)
    )
    assert "".join(texts_of(tokenizer, output, [1, 2])) == expected


def test_only_the_last_token_is_trimmed_as_a_stop_token(tokenizer: Tokenizer) -> None:
    letter = tokenizer.encode("a")[0]
    output = Output(start(), [letter, letter], FinishReason(type="stop", matched=letter))
    assert texts_of(tokenizer, output, []) == ["a"]
    # EOS of a request whose last output message carries no token.
    assert texts_of(tokenizer, Output(start(), [], FinishReason(type="stop", matched=letter)), []) == [""]


def test_a_partial_stop_is_held_until_it_is_none(tokenizer: Tokenizer) -> None:
    manager = DetokenizerManager(tokenizer)
    ids = {text: tokenizer.encode(text) for text in ("x\n", "U", "s", "!", "er")}
    texts = send(manager, ["r"], [ids["x\n"]], starts=[start(stop=("\nUser",))]).texts
    texts += [send(manager, ["r"], [ids[text]]).texts[0] for text in ("U", "s", "!")]
    assert texts == ["x", "", "", "\nUs!"]
    assert send(manager, ["r"], [tokenizer.encode("\nUs")]).texts == [""]
    # The output ends before the stop is complete.
    assert send(manager, ["r"], [[]], [LENGTH]).texts == ["\nUs"]


def test_a_stop_with_a_skipped_special_token_is_trimmed_where_it_begins(tokenizer: Tokenizer) -> None:
    stop = "b<|im_end|>c"
    ids = (
        tokenizer.encode("<|im_start|>a")
        + tokenizer.encode("b")
        + tokenizer.encode("<|im_end|>")
        + tokenizer.encode("c")
    )
    output = schedule(tokenizer, ids, start(stop=(stop,)))
    assert output.finish.matched == stop
    assert texts_of(tokenizer, output, [1, 2, 3, 4]) == ["", "a", "", "", ""]
    kept = schedule(tokenizer, ids, start(stop=(stop,), no_stop_trim=True))
    assert "".join(texts_of(tokenizer, kept, [1, 2, 3, 4])) == "abc"


def test_places_are_right_behind_several_skipped_tokens(tokenizer: Tokenizer) -> None:
    manager = DetokenizerManager(tokenizer)
    end = tokenizer.encode("<|im_end|>")
    x, y, a, b = (tokenizer.encode(letter) for letter in "xyab")
    starts = [start(stop=("a<|im_end|>b",))]
    assert send(manager, ["r"], [end + x + end + y + a], starts=starts).texts == ["xy"]
    assert send(manager, ["r"], [x + end + y + a + end]).texts == ["axy"]
    assert send(manager, ["r"], [b], [FinishReason(type="stop", matched="a<|im_end|>b")]).texts == [""]


def test_text_after_a_kept_stop_is_not_shown(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the")
    assert len(ids) == 1
    output = schedule(tokenizer, ids, start(stop=("h",), no_stop_trim=True))
    assert texts_of(tokenizer, output, []) == ["th"]


def test_a_stop_that_the_scheduler_let_pass_is_text(tokenizer: Tokenizer) -> None:
    # As with min_new_tokens: the output goes on behind the stop string.
    ids = tokenizer.encode("stop here")
    output = Output(start(stop=("stop",)), ids, LENGTH)
    assert "".join(texts_of(tokenizer, output, list(range(20)))) == "stop here"


def test_text_flows_on_when_regexes_run_out_of_time(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookline.frontend.request_text.REGEX_BUDGET", 0.01)
    manager = DetokenizerManager(tokenizer)
    send(manager, ["r"], [[]], starts=[start(stop_regex=(r"(?:a|aa)+c",))])
    texts = [send(manager, ["r"], [tokenizer.encode("a" * 100)]).texts[0] for _ in range(3)]
    assert "".join(texts) == "a" * 300


def test_state_ends_with_the_request(tokenizer: Tokenizer) -> None:
    manager = DetokenizerManager(tokenizer)
    letter = tokenizer.encode("a")
    rids = [f"r{index}" for index in range(50)]
    send(manager, rids, [letter] * 50, starts=[start(rid) for rid in rids])
    assert manager.num_live == 50
    abort = FinishReason(type="abort", message="aborted by the client", status_code=499)
    send(manager, rids, [[]] * 50, [abort] * 25 + [LENGTH] * 25)
    assert manager.num_live == 0


def test_a_request_aborted_before_its_first_token_has_no_text(tokenizer: Tokenizer) -> None:
    manager = DetokenizerManager(tokenizer)
    assert send(manager, ["r"], [[]], [FinishReason(type="abort")]).texts == [""]
    assert manager.num_live == 0


def test_tokens_after_the_end_are_not_shown(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    manager = DetokenizerManager(tokenizer)
    send(manager, ["r"], [tokenizer.encode("a")], [LENGTH], [start()])
    assert send(manager, ["r"], [tokenizer.encode("b")]).texts == [""]
    assert "request r has ended or never started; 1 tokens of it are not shown" in caplog.text
    assert manager.num_live == 0


def test_without_a_tokenizer_texts_are_empty() -> None:
    manager = DetokenizerManager(None)
    output = send(manager, ["r"], [[1, 2]], [LENGTH], [start(stop=("x",))])
    assert (output.texts, output.token_ids) == ([""], [[1, 2]])
    assert manager.num_live == 0
