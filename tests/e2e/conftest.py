"""Checkpoints that the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.factories.checkpoints import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """family -> directory of its random checkpoint, made once."""

    @cache
    def make(family: str) -> Path:
        return make_checkpoint(tmp_path_factory.mktemp(family), family)

    return make
