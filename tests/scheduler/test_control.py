"""Control requests: what they do, and that a failed one changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import VOCAB_SIZE, Harness


@pytest.mark.parametrize("overlap", [True, False])
def test_flush_needs_an_idle_engine_and_empties_the_cache(checkpoint: Path, overlap: bool) -> None:
    harness = Harness(checkpoint, overlap=overlap)
    harness.add("a", [5] * 10, 10)
    harness.run_until(lambda: len(harness.worker.batches) == 3)
    refused = harness.control("flush_cache")
    assert not refused.ok
    assert "1 requests run" in refused.message
    harness.run()
    assert harness.state["evictable_slots"] > 0
    assert harness.control("flush_cache").ok
    assert harness.state["free_slots"] == harness.state["total_tokens"]
    harness.add("b", [5] * 10, 2)
    stats = harness.run()["b"].stats
    assert stats is not None
    assert stats.cached_tokens == 0


def test_an_unknown_method_or_argument_is_told_and_survived(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    assert "unknown method 'fly'" in harness.control("fly").message
    reply = harness.control("flush_cache", hard=True)
    assert not reply.ok
    assert "hard" in reply.message
    harness.add("a", [5], 3)
    assert harness.run()["a"].reason == "length"


@pytest.mark.parametrize("overlap", [True, False])
def test_new_weights_reach_running_requests_and_old_kv_meets_nobody(checkpoint: Path, overlap: bool) -> None:
    harness = Harness(checkpoint, overlap=overlap, chunk=8)
    harness.add("runs", [5, 6, 7], 20)
    harness.add("chunked", range(40), 3)
    harness.run_until(lambda: "runs" in harness.outputs)
    reply = harness.control("update_weights", path="/new")
    assert reply.ok
    assert reply.data["weight_version"] == 1
    outputs = harness.run()
    # The fake device verifies every slot: KV of the old weights would be found out. Earlier tokens stay.
    tokens = outputs["runs"].token_ids
    old = expected_output([5, 6, 7], 20, VOCAB_SIZE)
    kept = next(i for i, (token, before) in enumerate(zip(tokens, old, strict=True)) if token != before)
    assert 0 < kept < 4
    assert tokens[kept:] == expected_output([5, 6, 7, *tokens[:kept]], 20 - kept, VOCAB_SIZE, weights=1)
    assert outputs["chunked"].token_ids == expected_output(range(40), 3, VOCAB_SIZE, weights=1)
    harness.assert_idle()
    harness.add("again", range(40), 3)
    stats = harness.run()["again"].stats
    assert stats is not None
    assert stats.cached_tokens == 39


def test_new_weights_empty_the_cache(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", range(40), 3)
    harness.run()
    assert harness.state["evictable_slots"] > 0
    assert harness.control("update_weights", path="/new").ok
    assert harness.state["evictable_slots"] == 0
    harness.assert_idle()


def test_a_failed_update_keeps_the_old_weights_and_retracts_nobody(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.worker.broken_weights = True
    harness.add("a", [5, 6, 7], 20)
    harness.run_until(lambda: len(harness.worker.batches) == 4)
    reply = harness.control("update_weights", path="/broken")
    assert not reply.ok
    assert "no weights in /broken" in reply.message
    outputs = harness.run()
    assert outputs["a"].token_ids == expected_output([5, 6, 7], 20, VOCAB_SIZE)
    assert outputs["a"].stats is not None
    assert outputs["a"].stats.num_retractions == 0
    assert harness.state["weight_version"] == 0


def test_memory_is_released_when_idle_and_requests_are_refused_until_it_is_back(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("before", [5] * 9, 3)
    harness.step()
    assert "1 requests run" in harness.control("release_memory", tags=["kv"]).message
    harness.run()
    assert harness.control("release_memory", tags=["kv", "weights"]).ok
    assert harness.control("release_memory", tags=["kv"]).ok
    assert harness.state["released_memory"] == ["kv", "weights"]
    assert "resume_memory" in harness.control("update_weights", path="/new").message
    harness.add("refused", [5] * 9, 3)
    finish = harness.run()["refused"].finish
    assert finish is not None
    assert (finish.type, finish.status_code, finish.code) == ("abort", 503, "memory_released")
    assert harness.control("resume_memory", tags=["weights"]).data == {"released_memory": ["kv"]}
    assert harness.control("resume_memory", tags=["kv"]).ok
    harness.add("after", [5] * 9, 3)
    output = harness.run()["after"]
    assert output.token_ids == expected_output([5] * 9, 3, VOCAB_SIZE)
    assert output.stats is not None
    assert output.stats.cached_tokens == 0
    assert "kv, weights" in harness.control("release_memory", tags=["disk"]).message


def test_adapters_have_slots_names_and_caches_of_their_own(checkpoint: Path) -> None:
    harness = Harness(checkpoint, adapters={"first": "/first"}, config={"lora": {"max_loras": 2}})
    assert harness.control("load_adapter", name="second", path="/second").data["slot"] == 2
    assert harness.state["adapters"] == ["first", "second"]
    prompt = list(range(40))
    for turn in ("cold", "warm"):
        for name in ("first", "second", None):
            harness.add(f"{turn} {name}", prompt, 6, lora=name)
        harness.add(f"{turn} third", prompt, 6, lora="third")
        outputs = harness.run()
        for name in ("first", "second", None):
            expected = expected_output(prompt, 6, VOCAB_SIZE, adapter=name or "")
            assert outputs[f"{turn} {name}"].token_ids == expected
        finish = outputs[f"{turn} third"].finish
        assert finish is not None
        assert finish.status_code == 404
        assert "loaded: first, second" in finish.message
    assert outputs["cold first"].stats is not None
    assert outputs["cold first"].stats.cached_tokens == 0
    assert outputs["warm first"].stats is not None
    assert outputs["warm first"].stats.cached_tokens == 39
    batch = next(batch for batch in harness.worker.batches if len(batch.rids) == 3)
    assert batch.adapters == [1, 2, 0]
    harness.assert_idle()


def test_unloading_waits_for_the_adapters_last_request(checkpoint: Path) -> None:
    harness = Harness(checkpoint, adapters={"a": "/a"}, config={"lora": {"max_loras": 1}})
    harness.add("uses", [5, 6], 12, lora="a")
    harness.step()
    assert harness.control("unload_adapter", name="a").data == {"num_users": 1}
    assert harness.worker.adapters == {1: "a"}
    assert "slots are taken" in harness.control("load_adapter", name="b", path="/b").message
    harness.add("late", [5, 6], 2, lora="a")
    outputs = harness.run()
    assert outputs["uses"].token_ids == expected_output([5, 6], 12, VOCAB_SIZE, adapter="a")
    finish = outputs["late"].finish
    assert finish is not None
    assert finish.status_code == 404
    assert harness.worker.adapters == {}
    # The same name from another place shares nothing with the old one.
    assert harness.control("load_adapter", name="a", path="/new").ok
    harness.add("again", [5, 6], 2, lora="a")
    stats = harness.run()["again"].stats
    assert stats is not None
    assert stats.cached_tokens == 0
    assert "unload it first" in harness.control("load_adapter", name="a", path="/a").message
    assert "did you mean 'a'" in harness.control("unload_adapter", name="aa").message


def test_an_aborted_request_lets_its_adapter_go(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_running_requests=1), adapters={"a": "/a"})
    harness.add("runs", [5], 20)
    harness.add("waits", [5], 20, lora="a")
    harness.step()
    harness.abort("waits")
    harness.step()
    assert harness.control("unload_adapter", name="a").data == {"num_users": 0}
    assert harness.worker.adapters == {}


def test_state_tells_pools_and_memory(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_total_tokens=64, page_size=16))
    harness.add("a", [5] * 20, 3)
    harness.run()
    state = harness.state
    assert (state["total_tokens"], state["page_size"]) == (64, 16)
    assert state["prompt_tokens_total"] == 20
    assert state["generated_tokens_total"] == 3
    assert state["evictable_slots"] == 16
    assert state["memory_ledger"] == {"weights": 1, "kv": 2, "activations": 3, "rest": 4}
