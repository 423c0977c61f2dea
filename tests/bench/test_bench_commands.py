"""Each measurement, as a user runs it, with tiny figures: it ends, and what it prints adds up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.factories.checkpoints import make_checkpoint
from tests.factories.demo_server import hookline
from tests.factories.frontend import save_frontend_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("bench"), "llama")


def bench(*arguments: str) -> Any:
    done = hookline("bench", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_frontend_carries_every_token_of_a_model_without_weights(tmp_path: Path) -> None:
    checkpoint = save_frontend_checkpoint(tmp_path / "model")
    shown = bench("frontend", str(checkpoint), "--streams", "5", "--tokens", "33", "--tokens-per-step", "2")
    (row,) = shown.pop("results")
    assert shown == {"streams": 5, "tokens_per_stream": 33, "tokens_per_step": 2, "steps_ahead": 4}
    # What is printed is rounded.
    assert row["tokens_per_s"] * row["seconds"] == pytest.approx(5 * 33, rel=0.01)
    num_chunks = row["chunks_per_s"] * row["seconds"]
    assert 5 * 0.99 <= num_chunks <= 5 * 17 * 1.01
    assert row["tokens_per_chunk"] == pytest.approx(5 * 33 / num_chunks, rel=0.01)
    assert 0 < row["seconds_to_all_started"] <= row["seconds"]
    assert {name for name in row if name.startswith("cpu_")} == {
        "cpu_server",
        "cpu_scheduler",
        "cpu_detokenizer",
        "cpu_client",
    }


def test_startup_times_commands_and_weighs_every_process(checkpoint: Path) -> None:
    shown = bench("startup", str(checkpoint), "--repetitions", "1", "--idle-seconds", "0.2")
    assert {row["command"]: 0 < row["best_s"] <= row["median_s"] for row in shown["starts"]} == {
        "plugins list": True,
        "--help": True,
        "serve": True,
    }
    assert [row["process"] for row in shown["idle"]] == ["server", "scheduler", "detokenizer"]
    assert all(row["rss_mib"] > 10 for row in shown["idle"])
    assert all(row["pss_mib"] is None or 0 < row["pss_mib"] <= row["rss_mib"] for row in shown["idle"])


def test_overhead_runs_the_same_workload_every_way(checkpoint: Path) -> None:
    arguments = ("--num-requests", "3", "--input-len", "8", "--output-len", "4")
    shown = bench("overhead", str(checkpoint), *arguments, "--repetitions", "1", "--first-tokens", "1")
    assert [row["way"] for row in shown["results"]] == ["engine", "http", "http, streamed"]
    for row in shown["results"]:
        assert row["requests_per_s"] * row["seconds"] == pytest.approx(3, rel=0.1)
    first = {row["way"]: row["ttft_ms"] for row in shown["results"]}
    assert first["http"] is None
    assert first["engine"] > 0
    assert first["http, streamed"] > 0


@pytest.mark.parametrize("shape", ["mixed", "shared-prefix"])
def test_offline_runs_workloads_of_several_requests(checkpoint: Path, shape: str) -> None:
    arguments = ("--num-requests", "3", "--input-len", "8", "--output-len", "4", "--prefix-len", "16")
    shown = bench("offline", str(checkpoint), "--workload", shape, *arguments, "--repetitions", "1")
    assert (shown["workload"], shown["requests"]) == (shape, 3)
    assert 0 < shown["output_tokens"] <= 12
    (row,) = shown["results"]
    assert (row["runner"], row["hookline_ratio"]) == ("hookline", 1.0)
    assert row["output_tokens_per_s"] * row["seconds"] == pytest.approx(shown["output_tokens"], rel=0.1)


@pytest.mark.slow
def test_offline_compares_with_transformers(checkpoint: Path) -> None:
    arguments = ("--workload", "single", "--input-len", "8", "--output-len", "4")
    shown = bench("offline", str(checkpoint), *arguments, "--repetitions", "1", "--baseline", "--dtype", "float32")
    names = [row["runner"] for row in shown["results"]]
    assert names == ["hookline", "transformers generate", "transformers generate_batch"]
    assert (shown["input_tokens"], shown["output_tokens"]) == (8, 4)


def test_a_server_that_does_not_start_ends_the_measurement_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = hookline("bench", "startup", str(tmp_path), "--repetitions", "1")
    assert done.returncode == 1
    assert "the server did not start" in done.stderr
    assert "architectures" in done.stderr


def test_a_key_is_refused_before_anything_starts(checkpoint: Path) -> None:
    done = hookline("bench", "frontend", str(checkpoint), "--api-key", "secret")
    assert done.returncode == 1
    assert "server.api_key is set (--api-key)" in done.stderr
    assert "secret" not in done.stderr


def test_a_run_that_lost_tokens_is_an_error_and_no_figure(tmp_path: Path) -> None:
    checkpoint = save_frontend_checkpoint(tmp_path / "model")
    done = hookline("bench", "frontend", str(checkpoint), "--streams", "1", "--tokens", "100000")
    assert done.returncode == 1
    assert "240 tokens arrived instead of 100000" in done.stderr
    assert done.stdout == ""
