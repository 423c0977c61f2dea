"""What the documents show works: the plugin of docs/writing-a-plugin.md is built from it and used."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hookline.interfaces.scheduling import SchedulePolicySpec
from hookline.plugins.manager import load_plugins
from hookline.plugins.plan import PluginPlan
from hookline.plugins.resolve import choose
from tests.factories.distributions import only

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def files_of(document: Path) -> dict[str, str]:
    """The files that a document shows: a line that begins with the file's name in backticks and a colon, then a
    fenced block."""
    pattern = re.compile(r"^`([\w./-]+)`:(?:[^\n]+\n)+\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return dict(pattern.findall(document.read_text()))


def test_the_tutorials_plugin_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(ROOT / "docs" / "writing-a-plugin.md")
    assert sorted(files) == ["hookline_shortest/plugin.py", "hookline_shortest/policy.py", "pyproject.toml"]
    for name, text in {**files, "hookline_shortest/__init__.py": ""}.items():
        file = tmp_path / "shortest" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    only(monkeypatch)
    registry = load_plugins(source_tree=[tmp_path])
    (offer,) = registry.offers(SchedulePolicySpec)
    assert (offer.spec.name, offer.source) == ("shortest", "hookline-shortest 0.1.0")
    assert "hookline_shortest.policy" not in sys.modules
    plan = PluginPlan(chosen=[choose(offer)], source_paths=registry.source_paths)
    policy = plan.load(plan.one("schedule_policies"))(seed=0)
    waiting = [SimpleNamespace(num_tokens=tokens, arrival=arrival) for arrival, tokens in enumerate((9, 3, 7, 3))]
    order = policy.order(SimpleNamespace(waiting=waiting))
    assert [(req.num_tokens, req.arrival) for req in order] == [(3, 1), (3, 3), (7, 2), (9, 0)]


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []
