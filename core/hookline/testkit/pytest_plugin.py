"""Loaded by pytest in every environment where hookline-core[testkit] is: must import nothing of weight."""

from __future__ import annotations

from pathlib import Path

import pytest

# Failed assertions of suites show their values, like those of a test file.
pytest.register_assert_rewrite("hookline.testkit")


@pytest.fixture(scope="session")
def fake_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the fake device: a config and a tokenizer, no weights."""
    from hookline.testkit.scheduling import save_checkpoint

    return save_checkpoint(tmp_path_factory.mktemp("fake-checkpoint"))
