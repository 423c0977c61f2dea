"""Loaded by pytest in every environment where hookline-core[testkit] is: must import nothing of weight."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

# Failed assertions of suites show their values, like those of a test file. By module: the package is imported already.
pytest.register_assert_rewrite(
    *(
        f"hookline.testkit.{name}"
        for _, name, _ in pkgutil.iter_modules([str(Path(__file__).parent)])
        if name != "pytest_plugin"
    )
)


@pytest.fixture(scope="session")
def fake_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the fake device: a config and a tokenizer, no weights."""
    from hookline.testkit.scheduling import save_checkpoint

    return save_checkpoint(tmp_path_factory.mktemp("fake-checkpoint"))
