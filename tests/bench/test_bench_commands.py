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


def test_offline_runs_the_standard_four_scaled_down_and_writes_what_belongs_to_the_figures(
    checkpoint: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    done = hookline("bench", "offline", str(checkpoint), "--scale", "0.01", "--seed", "3", "--output", str(report))
    assert done.returncode == 0, done.stderr
    shown = json.loads(report.read_text())
    found = {entry["workload"]: entry for entry in shown["workloads"]}
    assert {
        name: (entry["requests"], entry["input_tokens"]) for name, entry in found.items() if "mixed" not in name
    } == {
        "bs1-decode": (1, 1),
        "prefill-64x2048": (1, 20),
        "shared-prefix-256": (3, 3 * (20 + 1)),
    }
    for name, entry in found.items():
        (row,) = entry["results"]
        assert (row["runner"], row["hookline_ratio"]) == ("hookline", 1.0)
        warm_up, *runs = row["runs_s"]
        assert (warm_up, min(runs), len(runs)) == (row["first_s"], row["best_s"], 2)
        assert row["output_tokens_per_s"] * row["best_s"] == pytest.approx(entry["output_tokens"], rel=0.05)
        # The table says the same.
        assert f"{name}  " in done.stdout
        assert str(row["output_tokens_per_s"]) in done.stdout
    assert shown["settings"]["execution.seed"] == ["3", "--seed"]
    assert shown["machine"]["cores"] > 0
    assert set(shown["versions"]) >= {"python", "torch"}


def test_offline_runs_a_file_of_workloads_and_a_shape(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    requests = [{"input_len": 5, "output_len": 2, "count": 2}, {"prompt": [1, 2, 3], "output_len": 1}]
    file.write_text(json.dumps({"workloads": [{"name": "mine", "prefix_len": 4, "requests": requests}]}))
    arguments = ("--workload-file", str(file), "--repetitions", "1")
    (entry,) = bench("offline", str(checkpoint), *arguments)["workloads"]
    assert (entry["workload"], entry["requests"]) == ("mine", 3)
    assert (entry["input_tokens"], entry["output_tokens"]) == (2 * 9 + 3, 5)


def test_a_workload_longer_than_the_context_says_what_would_fit(checkpoint: Path) -> None:
    done = hookline("bench", "offline", str(checkpoint), "--workload", "bs1-decode", "--max-model-len", "100")
    assert done.returncode == 1
    assert "workload 'bs1-decode' has a request of 384 tokens, but the context is 100" in done.stderr
    assert "--scale 0.26 or less" in done.stderr


def test_a_model_and_a_shape_are_one_too_many(checkpoint: Path) -> None:
    done = hookline("bench", "offline", str(checkpoint), "--shape", "qwen3-0.6b")
    assert done.returncode == 2
    assert "give either a model" in done.stderr


def test_host_times_every_stage_of_a_step_for_a_shape_without_weights() -> None:
    shown = bench("host", "--shape", "qwen3-30b-a3b", "--requests", "9", "--steps", "5", "--rounds", "2")
    assert [row["stage"] for row in shown["stages"]] == [
        "schedule",
        "launch",
        "worker: plan",
        "worker: read",
        "mask",
        "process",
        "send",
        "encode",
        "other",
    ]
    assert all(row["us_per_step"] > 0 for row in shown["stages"] if row["stage"] != "mask")
    assert sum(row["us_per_step"] for row in shown["stages"]) == pytest.approx(shown["us_per_step"], rel=0.01)
    assert len(shown["rounds_us"]) == 2
    assert min(shown["rounds_us"]) == shown["us_per_step"]


def test_host_times_the_masks_of_constrained_requests(checkpoint: Path) -> None:
    shown = bench("host", str(checkpoint), "--requests", "4", "--schemas", "2", "--steps", "5", "--rounds", "2")
    assert next(row for row in shown["stages"] if row["stage"] == "mask")["us_per_step"] > 0
    assert (shown["schemas"], shown["compile_s"] > 0) == (2, True)


@pytest.mark.slow
def test_offline_compares_with_transformers(checkpoint: Path) -> None:
    arguments = ("--workload", "single", "--input-len", "8", "--output-len", "4")
    shown = bench("offline", str(checkpoint), *arguments, "--repetitions", "1", "--baseline", "--dtype", "float32")
    (entry,) = shown["workloads"]
    names = [row["runner"] for row in entry["results"]]
    assert names == ["hookline", "transformers generate", "transformers generate_batch"]
    assert (entry["input_tokens"], entry["output_tokens"]) == (8, 4)


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
