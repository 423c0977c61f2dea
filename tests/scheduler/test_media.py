"""Pictures in the scheduler: never confused, shared where they are the same, encoded once, and never in the way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hookline.messages.requests import MediaTensor, MultimodalInputs
from hookline.testkit.scheduling import Harness
from tests.factories.media import ROW_BYTES, Prompt, cached_tokens, digest, media_worker, send

RETRACTING = "tests.factories.schedulers:RetractingScheduler"


def harness_of(checkpoint: Path, *, budget: int = 100, page: int = 1, planes: int = 1, **options: Any) -> Harness:
    worker_options = {name: options.pop(name) for name in list(options) if name.startswith(("embedding", "max_total"))}
    worker = media_worker(page_size=page, position_planes=planes, **worker_options)
    config = {"multimodal": {"encoder_patch_budget": budget}, **options.pop("config", {})}
    return Harness(checkpoint, worker, config=config, **options)


# --- the prefix cache ---


def test_two_pictures_under_one_prompt_are_never_confused(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    prompts = {name: Prompt().text(1, 2, 3).picture(name, 8).text(4) for name in ("cat", "dog")}
    assert prompts["cat"].input_ids == prompts["dog"].input_ids
    for name, prompt in prompts.items():
        send(harness, name, prompt)
        harness.run()
        assert harness.outputs[name].token_ids == prompt.expected(6)
    assert cached_tokens(harness, ["cat", "dog"]) == [0, 3]


def test_one_picture_in_two_prompts_is_shared_up_to_its_end(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    for rid, last in (("a", 4), ("b", 5)):
        prompt = Prompt().text(1, 2).picture("cat", 8).text(last, last)
        send(harness, rid, prompt)
        harness.run()
        assert harness.outputs[rid].token_ids == prompt.expected(6)
    assert cached_tokens(harness, ["a", "b"]) == [0, 10]
    assert harness.worker.encoded == [digest("cat")]


def test_of_three_pictures_the_first_is_shared(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    for rid, names in (("a", "xyz"), ("b", "xuz")):
        prompt = Prompt().text(1)
        for name in names:
            prompt.picture(name, 4).text(2)
        send(harness, rid, prompt)
        harness.run()
        assert harness.outputs[rid].token_ids == prompt.expected(6)
    assert cached_tokens(harness, ["a", "b"]) == [0, 6]
    # The last one has other KV, since something else comes before it, but its rows are there.
    assert harness.worker.encoded == [digest(name) for name in "xyzu"]
    stats = harness.outputs["b"].stats
    assert stats is not None
    assert (stats.media_items, stats.media_reused) == (3, 2)


def test_digests_that_agree_in_most_bytes_are_not_confused(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    for rid in ("a", "b"):
        prompt = Prompt().picture("", 8, given=bytes(31) + rid.encode()).text(4)
        send(harness, rid, prompt)
        harness.run()
        assert harness.outputs[rid].token_ids == prompt.expected(6)
    assert cached_tokens(harness, ["a", "b"]) == [0, 0]


def test_a_cached_prefix_may_end_inside_a_picture(checkpoint: Path) -> None:
    harness = harness_of(checkpoint, page=4)
    first = Prompt().text(1).picture("cat", 9).text(2)
    second = Prompt().text(1).picture("cat", 9).text(3, 3, 3)
    for rid, prompt in (("a", first), ("b", second)):
        send(harness, rid, prompt)
        harness.run()
        assert harness.outputs[rid].token_ids == prompt.expected(6)
    assert cached_tokens(harness, ["a", "b"]) == [0, 8]
    assert harness.worker.encoded == [digest("cat")]


# --- any schedule gives the same ---

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no overlap": {"overlap": False},
    "chunks of 1": {"chunk": 1},
    "chunks of 5": {"chunk": 5},
    "chunks of 5, mixed": {"chunk": 5, "schedule": {"enable_mixed_chunk": True}},
    "page 4, chunks": {"page": 4, "chunk": 8},
    "three planes": {"planes": 3},
    "three planes, chunks of 5": {"planes": 3, "chunk": 5},
    "three planes, retraction": {"planes": 3, "scheduler": RETRACTING, "chunk": 7},
    "three planes, retraction, no cache": {"planes": 3, "scheduler": RETRACTING, "cache": False, "chunk": 7},
    "retraction, no overlap": {"scheduler": RETRACTING, "overlap": False},
    "a small pool": {"max_total_tokens": 96, "schedule": {"schedule_conservativeness": 0.01}},
    "no room for rows": {"embedding_cache_bytes": 0},
    "rows on the host": {"embedding_cache_bytes": 0, "embedding_host_bytes": 2000},
    "little room for rows": {"embedding_cache_bytes": 15 * ROW_BYTES},
    "one patch at a time": {"budget": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_answer_does_not_depend_on_the_schedule(variant: str, checkpoint: Path) -> None:
    harness = harness_of(checkpoint, **VARIANTS[variant])
    prompts = {
        "one": Prompt().text(1, 2).picture("cat", 10).text(3),
        "edges": Prompt().picture("dog", 5).picture("cow", 5),
        "many": Prompt().text(4).picture("cat", 10).text(5).picture("dog", 5).picture("emu", 13).text(6, 7),
        "clip": Prompt().text(1).picture("clip0", 4, 4, cost=8).text(2).picture("clip1", 4, 4, 4, cost=12).text(3),
        "twice": Prompt().picture("cat", 10).text(1).picture("cat", 10),
        "text": Prompt().text(*range(20, 50)),
    }
    for turn in ("cold", "warm"):
        for name, prompt in prompts.items():
            send(harness, f"{turn} {name}", prompt, 12)
        harness.run()
    harness.assert_idle()
    for rid, output in harness.outputs.items():
        assert output.token_ids == prompts[rid.split()[1]].expected(12), rid
    counts = {name: harness.worker.encoded.count(digest(name)) for name in ("cat", "dog", "emu", "clip0", "clip1")}
    if "retraction" not in variant and "room" not in variant and "small" not in variant:
        assert set(counts.values()) == {1}
    state = harness.state
    assert state["media_encoded_total"] == len(harness.worker.encoded)


def test_a_prompt_in_chunks_has_each_picture_encoded_once_even_without_a_cache(checkpoint: Path) -> None:
    harness = harness_of(checkpoint, embedding_cache_bytes=0, cache=False, chunk=3)
    prompt = Prompt().text(1).picture("cat", 20).picture("dog", 20).text(2)
    send(harness, "a", prompt)
    harness.run()
    assert harness.outputs["a"].token_ids == prompt.expected(6)
    assert harness.worker.encoded == [digest("cat"), digest("dog")]
    harness.control("flush_cache")
    assert not harness.worker.on_device


# --- the encoder's work ---


def test_requests_that_miss_the_same_picture_at_once_have_it_encoded_once(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    for i in range(5):
        send(harness, f"r{i}", Prompt().text(i).picture("cat", 6).text(1))
    harness.run()
    assert harness.worker.encoded == [digest("cat")]
    assert sum(output.stats.media_reused for output in harness.outputs.values() if output.stats) == 4


def test_pictures_of_several_requests_are_encoded_together_up_to_the_budget(checkpoint: Path) -> None:
    harness = harness_of(checkpoint, budget=10)
    for i in range(5):
        send(harness, f"r{i}", Prompt().picture(f"p{i}", 6).text(1))
    harness.run()
    assert [len(orders.encode) for orders in harness.worker.orders if orders.encode] == [2, 2, 1]


def test_a_long_clip_lets_others_decode_between_its_runs(checkpoint: Path) -> None:
    harness = harness_of(checkpoint, budget=10)
    harness.add("text", [1, 2, 3], 60)
    harness.run_until(lambda: "text" in harness.outputs)
    clip = Prompt()
    for i in range(8):
        clip.text(9).picture(f"run{i}", 4, cost=25)
    send(harness, "clip", clip)
    harness.step()
    lengths = []
    while "clip" not in harness.outputs:
        before = len(harness.worker.encoded)
        harness.step()
        assert len(harness.worker.encoded) - before <= 1
        lengths.append(len(harness.outputs["text"].token_ids))
    # The stream goes on by one token with each run of the clip.
    assert lengths[:7] == list(range(lengths[0], lengths[0] + 7))
    harness.run()
    assert harness.outputs["clip"].token_ids == clip.expected(6)


def test_rows_that_wait_for_their_prompts_are_bounded(checkpoint: Path) -> None:
    harness = harness_of(
        checkpoint, embedding_cache_bytes=25 * ROW_BYTES, config={"schedule": {"max_running_requests": 1}}
    )
    for i in range(6):
        send(harness, f"r{i}", Prompt().picture(f"p{i}", 10).text(1), 4)
    largest = 0
    for _ in range(200):
        harness.step()
        largest = max(largest, len(harness.worker.on_device))
        if len(harness.finished) == 6:
            break
    assert len(harness.finished) == 6
    assert largest <= 3
    harness.assert_idle()


def test_an_item_larger_than_all_room_is_served_alone(checkpoint: Path) -> None:
    harness = harness_of(checkpoint, embedding_cache_bytes=5 * ROW_BYTES, budget=1)
    prompts = {f"r{i}": Prompt().picture(f"p{i}", 30, cost=50).text(1) for i in range(3)}
    for rid, prompt in prompts.items():
        send(harness, rid, prompt)
    harness.run()
    assert {rid: output.token_ids for rid, output in harness.outputs.items()} == {
        rid: prompt.expected(6) for rid, prompt in prompts.items()
    }


# --- ends of all kinds ---


@pytest.mark.parametrize("num_steps", [0, 1, 2, 3, 5])
def test_a_request_that_is_aborted_at_any_time_leaves_nothing_pinned(num_steps: int, checkpoint: Path) -> None:
    harness = harness_of(checkpoint, budget=1, chunk=4, embedding_cache_bytes=0)
    send(harness, "gone", Prompt().picture("a", 6).picture("b", 6).picture("c", 6).text(1))
    send(harness, "stays", Prompt().picture("b", 6).text(2))
    for _ in range(num_steps):
        harness.step()
    harness.abort("gone")
    harness.run()
    harness.assert_idle()
    assert harness.outputs["stays"].token_ids == Prompt().picture("b", 6).text(2).expected(6)
    harness.control("flush_cache")
    assert not harness.worker.on_device


def test_new_weights_drop_all_rows_and_waiting_requests_get_new_ones(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    send(harness, "a", Prompt().picture("cat", 6).text(1), 40)
    harness.run_until(lambda: "a" in harness.outputs)
    assert harness.control("update_weights", path=".").ok
    harness.run()
    assert harness.worker.encoded == [digest("cat"), digest("cat")]
    harness.assert_idle()


@pytest.mark.parametrize("overlap", [True, False])
def test_an_item_that_cannot_be_encoded_ends_its_requests_and_is_tried_anew(overlap: bool, checkpoint: Path) -> None:
    harness = harness_of(checkpoint, overlap=overlap)
    prompt = Prompt().text(1).picture("cat", 6).text(1)
    send(harness, "early", prompt, 60)
    harness.run_until(lambda: "early" in harness.outputs)
    harness.control("flush_cache")
    harness.worker.bad_media.add(digest("dog"))
    bad = Prompt().text(1).picture("dog", 6).text(1)
    for rid in ("bad", "too"):
        send(harness, rid, bad)
    send(harness, "good", Prompt().text(1).picture("emu", 6).text(1))
    harness.run_until(lambda: {"bad", "too"} <= set(harness.finished))
    finish = harness.outputs["bad"].finish
    assert finish is not None
    assert (finish.type, finish.status_code, finish.code) == ("abort", 500, "unusable_output")
    assert "bad media" in finish.message
    harness.worker.bad_media.clear()
    send(harness, "again", bad)
    harness.run()
    # What the failed passes left in the prefix cache is not for anybody.
    assert cached_tokens(harness, ["again"]) == [1]
    assert harness.worker.encoded.count(digest("dog")) == 2
    assert harness.outputs["again"].token_ids == bad.expected(6)
    assert harness.outputs["early"].token_ids == prompt.expected(60)
    assert harness.outputs["good"].token_ids == Prompt().text(1).picture("emu", 6).text(1).expected(6)
    harness.assert_idle()


# --- what cannot be ---


def broken(prompt: Prompt, **changes: Any) -> MultimodalInputs:
    """The inputs of a prompt, one field of the first item changed."""
    first = msgspec.structs.replace(prompt.items[0], **changes)
    return MultimodalInputs(items=[first, *prompt.items[1:]])


def in_segment(name: str) -> MediaTensor:
    return MediaTensor(name="x", dtype="uint8", shape=(2,), segment=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spans": [(1, 5)]}, "item 0 has 5 placeholders for 6 rows"),
        ({"spans": [(2, 6)]}, r"placeholders at 2 \.\.\. 8 of 7 tokens"),
        ({"spans": [(0, 3), (2, 3)]}, r"placeholders at 2 \.\.\. 5"),
        ({"digest": b"short"}, "digest 5"),
        (
            {"tensors": [MediaTensor(name="x", dtype="uint8", shape=(2,), segment="nowhere-to-be-found")]},
            "cannot be read",
        ),
        ({"tensors": [MediaTensor(name="x", dtype="uint8", shape=(2,), segment="../etc/passwd")]}, "not the name of"),
    ],
)
def test_media_that_do_not_fit_fail_their_request_only(changes: dict[str, Any], message: str, checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    prompt = Prompt().text(1).picture("cat", 6)
    harness.add("bad", prompt.input_ids, multimodal=broken(prompt, **changes))
    send(harness, "good", prompt)
    harness.run()
    finish = harness.outputs["bad"].finish
    assert finish is not None
    assert finish.type == "abort"
    assert finish.status_code == 500
    assert re.search(message, finish.message)
    assert harness.outputs["good"].token_ids == prompt.expected(6)


def test_a_text_model_refuses_pictures(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    prompt = Prompt().text(1).picture("cat", 6)
    harness.add("a", prompt.input_ids, multimodal=prompt.inputs())
    harness.run()
    finish = harness.outputs["a"].finish
    assert finish is not None
    assert (finish.status_code, finish.message) == (400, "this model takes text only; send no pictures or other media")
