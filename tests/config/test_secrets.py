"""Secrets: by reference, late, and never printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.config.schema import HooklineConfig
from hookline.config.secrets import read_secret, redact
from hookline.errors import ConfigError


def test_references_are_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    assert read_secret(f"file:{tmp_path / 'key'}", "server.api_key") == "from a file"
    assert read_secret("env:KEY", "server.api_key", {"KEY": "from the environment"}) == "from the environment"
    assert read_secret("plain", "server.api_key") == "plain"
    # A colon alone makes no reference.
    assert read_secret("sk:abc", "server.api_key") == "sk:abc"
    assert read_secret(None, "server.api_key") is None


@pytest.mark.parametrize("value", ["env:NOT_SET", "env:EMPTY", "file:/nowhere/at/all", ""])
def test_a_reference_that_leads_nowhere_names_the_setting(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^server\.api_key is "):
        read_secret(value, "server.api_key", {"EMPTY": ""})


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ConfigError, match="which is empty"):
        read_secret(f"file:{tmp_path / 'key'}", "server.api_key")


def test_redacted_values_keep_everything_else() -> None:
    config = HooklineConfig.model_validate(
        {
            "server": {"api_key": "hush", "admin_key": "env:ADMIN", "port": 1},
            "plugins": {"mine": {"hub_token": "hush", "inner": [{"password": "hush"}], "keys": 3, "token_count": 4}},
        }
    )
    shown = redact(config.model_dump())
    assert "hush" not in repr(shown)
    assert shown["server"]["api_key"] == "***"
    assert shown["server"]["admin_key"] == "env:ADMIN"
    assert shown["plugins"]["mine"]["keys"] == 3
    assert shown["plugins"]["mine"]["token_count"] == 4
    assert shown["cache"] == config.cache.model_dump()
