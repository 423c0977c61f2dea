"""Writes the generated parts of the documents: ``python -m tests.docs.generate``.

Text outside the markers ``<!-- generated: ... -->`` and ``<!-- end -->`` is written by hand and kept.
docs/compatibility.md is made by a command of its own, `hookline plugins matrix`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from tests.docs.hooks_page import all_hooks, shared_fields
from tests.docs.markdown import put
from tests.docs.settings_tables import all_sections
from tests.docs.testkit_page import PARTS

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = "python -m tests.docs.generate"

#: document -> marker -> what stands between it and the end.
GENERATED: Mapping[str, Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "hooks.md": {"fields that all specs share": shared_fields, "every hook": all_hooks},
        "configuration.md": {"all settings": all_sections},
        "testkit.md": PARTS,
    }
)


def regenerated(name: str) -> str:
    """A document with its generated parts as the code gives them now."""
    text = (DOCS / name).read_text(encoding="utf-8")
    for marker, body in GENERATED[name].items():
        text = put(text, marker, body())
    return text


def main() -> None:
    for name in GENERATED:
        (DOCS / name).write_text(regenerated(name), encoding="utf-8")


if __name__ == "__main__":
    main()
