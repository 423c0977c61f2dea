"""What all scheduler tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.testkit.scheduling import save_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config and tokenizer of the fake model."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))
