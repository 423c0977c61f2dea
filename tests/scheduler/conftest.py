"""What all scheduler tests share."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.factories.scheduling import save_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config and tokenizer of the fake model."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(autouse=True)
def _no_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake grammars read no tokenizer; importing transformers for them would take seconds."""
    stub = SimpleNamespace(AutoTokenizer=SimpleNamespace(from_pretrained=lambda path: path))
    monkeypatch.setitem(sys.modules, "transformers", stub)
