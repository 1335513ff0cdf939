"""Links between our own pages lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    """Every relative link names a file that is there, and a heading in it."""
    broken = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if (
            not target.is_relative_to(ROOT)
            or not target.exists()
            or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        ):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page):
    """A file that a page names by its folder, as in `log/files.py`, is in the package or beside it."""
    named = re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)+\.(?:py|c|sh))`", page.read_text())
    homes = (ROOT, ROOT / "src/barnabas")
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []


def test_every_page_can_be_found():
    """From the README, by links, one comes to every page."""
    found = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        targets = (link.partition("#")[0] for link in links(page) if "://" not in link)
        waiting += [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
    lost = {str(page.relative_to(ROOT)) for page in pages()} - {str(page.relative_to(ROOT)) for page in found}
    assert lost - {"CHANGELOG.md"} == set()
