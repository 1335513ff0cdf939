"""Reading our own pages: code blocks, headings, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "Block", "anchors", "blocks", "links", "pages", "transcript"]

ROOT = Path(__file__).resolve().parents[2]


class Block(NamedTuple):
    """A fenced block of code: the word after the fence, its text, the line it begins at."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page of the project, in the top and in docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    language, lines, begun = None, [], 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, lines, begun = line.removeprefix("```").strip(), [], number
        else:
            found.append(Block(language, "\n".join(lines) + "\n", begun))
            language = None
    assert language is None, f"{page}:{begun}: a block without an end"
    return found


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """The targets of links in a page's prose."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", _prose(page)))


def anchors(page: Path) -> set[str]:
    """What can stand after # in a link to a page: its headings, as GitHub and GitLab write them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", _prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower()
        found.add(plain.replace(" ", "-"))
    return found


def transcript(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a `console` block, each with the lines that it prints. A command goes on after a backslash."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            command, shown = found[-1]
            found[-1] = (f"{command}\n{line}", shown)
        elif line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line:
            found[-1][1].append(line)
        continued = line.endswith("\\") and not (found and found[-1][1])
    return found
