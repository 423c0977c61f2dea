"""Checkpoints without weights, shared by the frontend's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.text.tokenizer import Tokenizer, load_tokenizer
from tests.factories.frontend import save_frontend_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without generation_config.json."""
    return save_frontend_checkpoint(tmp_path_factory.mktemp("frontend"))


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Path) -> Tokenizer:
    """The checkpoint's tokenizer."""
    return load_tokenizer(checkpoint)
