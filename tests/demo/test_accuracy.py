"""A short version of the accuracy table. The full one is plugins/demo/training/ACCURACY.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.evaluate import Evaluator, evaluation_tasks, held_out, is_right, load_model
from training.template import CHECKPOINT

TABLE = Path(CHECKPOINT).parent.parent / "training" / "ACCURACY.md"


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(load_model(CHECKPOINT, torch.device("cpu"), torch.float32), CHECKPOINT, batch=64)


@pytest.mark.parametrize("thinking", [True, False])
def test_one_held_out_item_of_every_task_is_answered(evaluator: Evaluator, thinking: bool) -> None:
    tasks = [task for task in evaluation_tasks().values() if thinking in task.modes]
    items = [held_out(task, thinking, 1)[0] for task in tasks]
    outputs = evaluator.answer(items, thinking)
    right = [is_right(item, output, thinking) for item, output in zip(items, outputs, strict=True)]
    # One unlucky item is within what the table states.
    assert sum(right) >= len(right) - 1


@pytest.mark.slow
@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("name", sorted(evaluation_tasks()))
def test_thirty_held_out_items_of_a_task(evaluator: Evaluator, name: str, thinking: bool) -> None:
    task = evaluation_tasks()[name]
    if thinking not in task.modes:
        pytest.skip("the task has no such mode")
    assert evaluator.score(task, thinking, 30).right >= 28


def test_the_table_has_a_row_for_every_task_and_adapter() -> None:
    text = TABLE.read_text()
    assert text.startswith("# Accuracy of the demo checkpoint, 20")
    for name in (*evaluation_tasks(), "adapter upper", "adapter number-words"):
        assert f"| {name} |" in text
