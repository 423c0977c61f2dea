"""Secrets: values given by reference, read as late as possible, and never printed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hookline.config.settings import all_settings
from hookline.errors import ConfigError

REDACTED = "***"

#: Options of plugins have no marks that core could always read, so names decide there.
_SECRET_NAME = re.compile(r"(^|_)(key|token|secret|password|credentials?)$", re.IGNORECASE)


def read_secret(value: str | None, setting: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The secret itself: ``env:NAME`` and ``file:PATH`` are read, anything else is the secret.

    Raises ``ConfigError`` naming ``setting`` when the reference leads nowhere or to an empty text.
    """
    if value is None:
        return None
    kind, separator, place = value.partition(":")
    if separator and kind == "env":
        secret = environ.get(place)
        if not secret:
            raise ConfigError(f"{setting} is to be read from the environment variable {place}, which is not set")
        return secret
    if separator and kind == "file":
        try:
            secret = Path(place).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{setting} is to be read from the file '{place}': {exc}") from exc
        if not secret:
            raise ConfigError(f"{setting} is to be read from the file '{place}', which is empty")
        return secret
    if not value:
        raise ConfigError(f"{setting} is an empty text; leave it out, or give a key")
    return value


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``HooklineConfig.model_dump()`` that may be printed."""
    hidden = {path for path, setting in all_settings().items() if setting.is_secret}
    return {
        section: _redact_plugins(inner)
        if section == "plugins"
        else {leaf: _hide(value) if f"{section}.{leaf}" in hidden else value for leaf, value in inner.items()}
        if isinstance(inner, Mapping)
        else inner
        for section, inner in values.items()
    }


def redact_value(path: str, value: Any) -> Any:
    """One value as it may be printed; ``path`` is dotted."""
    setting = all_settings().get(path)
    is_hidden = setting.is_secret if setting is not None else bool(_SECRET_NAME.search(path.rpartition(".")[2]))
    return _hide(value) if is_hidden else value


def _redact_plugins(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _hide(inner) if _SECRET_NAME.search(str(key)) else _redact_plugins(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_redact_plugins(item) for item in value]
    return value


def _hide(value: Any) -> Any:
    """References say where the secret is, not what it is, so they stay."""
    if value is None or (isinstance(value, str) and value.startswith(("env:", "file:"))):
        return value
    return REDACTED
