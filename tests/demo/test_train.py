"""The training commands without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training import adapters, train
from training.export import export
from training.optimise import Schedule


def test_training_without_a_gpu_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as refusal:
        train.main(["--out", str(tmp_path)])
    message = str(refusal.value)
    assert "needs a CUDA GPU" in message
    assert "--cpu-smoke-steps N" in message
    assert message.count(".") == 1
    assert not list(tmp_path.iterdir())


def test_a_smoke_run_trains_exports_and_resumes_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.main(["--out", str(tmp_path / "weights"), "--cpu-smoke-steps", "2", "--muon-lr", "0.02"])
    assert "step 2/2" in capsys.readouterr().out
    export(tmp_path / "weights", tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "config.json").is_file()
    resume = ["--resume", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "more"), "--cpu-smoke-steps", "1"]
    train.main(resume)
    assert (tmp_path / "more" / "run.json").is_file()


@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning:transformers")
def test_a_smoke_run_writes_both_adapters(tmp_path: Path) -> None:
    adapters.main(["--out", str(tmp_path), "--cpu-smoke-steps", "1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["number-words", "upper"]


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    schedule = Schedule(steps=100, peak_lr=1.0, warmup=10)
    factors = [schedule.factor(step) for step in range(101)]
    assert max(factors) == 1.0
    assert factors[0] == pytest.approx(0.1)
    assert factors[100] == 0.0
    assert factors[9:] == sorted(factors[9:], reverse=True)
