"""What plugins are written against changes on purpose only."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from hookline.plugins.kinds import SPEC_TYPES
from tests.contract.snapshots import (
    COMMAND,
    FAMILIES,
    FOLDER,
    RELEASED,
    TESTKIT,
    Version,
    breaks,
    snapshots,
    undecided,
    versions_in,
)
from tests.contract.surface import surface_of_source

ROOT = Path(__file__).parents[2]
NOW = snapshots()
#: Lines of ``breaks`` since the last release that break no plugin -> why. Emptied by a release.
ACCEPTED: Mapping[str, str] = MappingProxyType({})


@pytest.mark.parametrize("name", NOW)
def test_the_committed_snapshot_is_what_the_sources_say(name: str) -> None:
    committed = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert NOW[name] == committed, (
        f"what plugins are written against has changed; if that is meant, run: {COMMAND}\n"
        "Fields with defaults and methods with bodies need nothing else. Anything more needs another api_version once "
        "the family was released: raise current_api_version; where the family is stable, keep serving the old one for "
        "a minor release, with an entry in hookline.deprecations. Say it in CHANGELOG.md."
    )


def test_there_is_no_other_snapshot() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(NOW)


@pytest.mark.parametrize("name", sorted(path.stem for path in RELEASED.glob("*.txt") if path.stem != TESTKIT))
def test_changes_since_the_release_are_decided(name: str) -> None:
    """Compares with what the last release served; there is nothing to compare with before the first."""
    assert undecided((RELEASED / f"{name}.txt").read_text(encoding="utf-8"), NOW[name], ACCEPTED) == []


def test_every_family_has_a_snapshot_with_its_tier_and_versions() -> None:
    covered = [kind for family in FAMILIES.values() for kind in family.kinds]
    assert sorted(covered) == sorted(SPEC_TYPES)
    for name, family in FAMILIES.items():
        assert set(versions_in(NOW[name])) == set(family.kinds or ("PluginInfo",))


def test_everything_that_shipped_plugins_import_is_recorded() -> None:
    recorded = {line.removeprefix("## ") for text in NOW.values() for line in text.splitlines() if line[:3] == "## "}
    imported: dict[str, str] = {}
    for file in (ROOT / "plugins").glob("*/hookline_*/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hookline."):
                imported.setdefault(str(node.module), str(file.relative_to(ROOT)))
    missing = {module: file for module, file in imported.items() if module not in recorded}
    assert missing == {}, "add the module to the family that needs it, or import something that is recorded"


SOURCE = '''
LIMIT: int = 3

@dataclass(frozen=True)
class Env:
    """Facts."""
    size: int
    scale: float = 1.0
    table: ClassVar[Mapping[str, str]] = MappingProxyType({"a": "prose"})
    _hidden: int = 0

class Backend(ABC):
    def __init__(self, env: Env, *, seed: int = 0) -> None:
        self.env = env
        self._seed = seed

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def run(self, x_TH: Tensor) -> Tensor: ...

    async def close(self) -> None:
        pass

    def _inner(self) -> None:
        pass

def make(*parts: str) -> Backend: ...
def _private() -> None: ...
'''

LINES = [
    "LIMIT: int",
    "class Env",
    "Env.size: int",
    "Env.scale: float = 1.0",
    "Env.table['a']",
    "class Backend(ABC)",
    "Backend(self, env: Env, *, seed: int=0)",
    "Backend.env  [attribute]",
    "Backend.name(self) -> str  [abstract property]",
    "Backend.run(self, x_TH: Tensor) -> Tensor  [abstract]",
    "async Backend.close(self) -> None",
    "def make(*parts: str) -> Backend",
]


def test_a_surface_has_a_line_for_everything_public() -> None:
    assert surface_of_source(SOURCE) == LINES


def changed(*replacements: tuple[str, str]) -> list[str]:
    source = SOURCE
    for old, new in replacements:
        assert old in source
        source = source.replace(old, new)
    return breaks("\n".join(LINES), "\n".join(surface_of_source(source)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scale: float = 1.0\n", "scale: float = 1.0\n    shift: float = 0.0\n"),
        ('{"a": "prose"}', '{"a": "other prose", "b": "more"}'),
        ("    async def close", "    def open(self) -> None:\n        pass\n\n    async def close"),
        ("_hidden: int", "_concealed: int"),
        ("def make(", "class Other:\n    size: int\n\ndef make("),
    ],
)
def test_additions_with_defaults_and_bodies_break_nothing(old: str, new: str) -> None:
    assert changed((old, new)) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("    size: int\n", "", "gone or changed: Env.size: int"),
        ("scale: float = 1.0", "scale: float = 2.0", "gone or changed: Env.scale: float = 1.0"),
        ("    size: int\n", "    size: int\n    depth: int\n", "now required: Env.depth: int"),
        ('{"a": "prose"}', '{"b": "prose"}', "gone or changed: Env.table['a']"),
        (
            "    async def close",
            "    @abstractmethod\n    def more(self) -> None: ...\n\n    async def close",
            "now required: Backend.more(self) -> None  [abstract]",
        ),
        ("run(self, x_TH: Tensor)", "run(self, x_TH: Tensor, y: int)", f"gone or changed: {LINES[9]}"),
        ("def make(*parts: str)", "def make(*parts: bytes)", f"gone or changed: {LINES[11]}"),
    ],
)
def test_breaks_are_named(old: str, new: str, line: str) -> None:
    assert line in changed((old, new))


def head(current: int, oldest: int, tier: str = "stable") -> str:
    return f"# poolers: {tier}, hookline_poolers, api_version {current}, oldest served {oldest}\n\n"


def test_a_break_needs_another_version_and_a_stable_family_keeps_the_old_one() -> None:
    old, new = "class Pooler\nPooler.size: int\n", "class Pooler\n"
    assert versions_in(head(2, 1)) == {"poolers": Version(is_stable=True, current=2, oldest=1)}
    assert undecided(head(1, 1) + old, head(1, 1) + old) == []
    broken = "gone or changed: Pooler.size: int"
    assert undecided(head(1, 1) + old, head(1, 1) + new) == [broken, "raise current_api_version of poolers"]
    assert undecided(head(1, 1) + old, head(1, 1) + new, {broken: "it was never read"}) == []
    assert undecided(head(1, 1) + old, head(2, 1) + new) == []
    (sentence,) = undecided(head(1, 1) + old, head(2, 2) + new)
    assert sentence.startswith("poolers is stable: version 1 must be served for one more minor release")
    assert undecided(head(1, 1, "provisional") + old, head(2, 2, "provisional") + new) == []
