"""The generated part of docs/configuration.md: a table of every section's settings."""

from __future__ import annotations

from collections.abc import Iterator

from hookline.config.settings import all_settings, section_help
from hookline.config.toml import toml_value
from tests.docs.markdown import table


def all_sections() -> str:
    return "\n\n".join(_blocks())


def _blocks() -> Iterator[str]:
    sections: dict[str, list[list[str]]] = {}
    for setting in all_settings().values():
        if setting.section:
            default = "null" if setting.default is None else toml_value(setting.default)
            row = [f"`{setting.leaf}`", f"`{default}`", setting.expected, setting.description]
            sections.setdefault(setting.section, []).append(row)
    for section, rows in sections.items():
        yield f"### {section}"
        yield section_help(section)
        yield table(["setting", "default", "values", "meaning"], rows)
