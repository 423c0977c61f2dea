"""Links between documents lead somewhere, headings included, on a code host as well as on the built site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *PAGES, *sorted(ROOT.glob("examples/plugins/*/README.md"))]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(document: Path) -> set[str]:
    """The ids of its headings, as code hosts make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", without_code(document.read_text()), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")
        count = 1
        unique = slug
        while unique in found:
            unique = f"{slug}-{count}"
            count += 1
        found.add(unique)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_link_to_pages_alone(page: Path) -> None:
    """The built site has nothing else of the repository."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", without_code(page.read_text()))
    assert [link for link in links if "://" not in link and (DOCS / link) not in PAGES] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)["nav"]
    named = re.findall(r"[\w-]+\.md", str(navigation))
    assert sorted(named) == sorted(page.name for page in PAGES)


def test_every_page_is_on_the_front_page() -> None:
    text = (DOCS / "index.md").read_text()
    assert [page.name for page in PAGES if f"]({page.name})" not in text and page.name != "index.md"] == []
