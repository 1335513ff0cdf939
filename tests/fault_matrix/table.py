"""Outcomes as a table in a page, between markers; rows that were not run this time stay as they are."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Result", "merged", "page_with", "table"]

BEGIN = "<!-- fault matrix: begin -->"
END = "<!-- fault matrix: end -->"

HEAD = (
    "Fault",
    "System",
    "Acknowledged",
    "Lost",
    "Duplicated",
    "Reordered",
    "No acknowledgement, s",
    "No record read, s",
)


@dataclass(frozen=True)
class Result:
    """One row and one system, over all rounds.

    Attributes:
        row: The name of the row.
        system: The name of the system, with its version.
        trouble: Why there are no figures, or what clients saw that must not be; empty if all went well.
        longest_s: The longest time without an acknowledgement, of the partition that fared worst in the worst round.
        others_s: The median of those of the other partitions, and of the rounds.
        unread_s: As `longest_s`, for records that the group got.
    """

    row: str
    system: str
    trouble: str = ""
    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    longest_s: float = 0.0
    others_s: float = 0.0
    unread_s: float = 0.0

    @classmethod
    def over(cls, rounds: Sequence[Result]) -> Result:
        """Several rounds as one."""
        first = rounds[0]
        ran = [each for each in rounds if each.rounds]
        return cls(
            first.row,
            first.system,
            trouble="; ".join(dict.fromkeys(each.trouble for each in rounds if each.trouble)),
            rounds=sum(each.rounds for each in rounds),
            acknowledged=sum(each.acknowledged for each in rounds),
            lost=sum(each.lost for each in rounds),
            duplicated=sum(each.duplicated for each in rounds),
            reordered=sum(each.reordered for each in rounds),
            longest_s=max((each.longest_s for each in ran), default=0.0),
            others_s=median([each.others_s for each in ran]) if ran else 0.0,
            unread_s=max((each.unread_s for each in ran), default=0.0),
        )

    @property
    def is_good(self) -> bool:
        return not (self.trouble or self.lost or self.duplicated or self.reordered)


def table(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    """The results as Markdown, in the order of the rows."""
    lines = [_line(HEAD), _line(["---"] * 2 + ["--:"] * (len(HEAD) - 2))]
    order = list(titles)
    for result in sorted(results, key=lambda each: (order.index(each.row), _rank(each))):
        figures = ["", "", "", "", "", ""]
        if result.rounds:
            figures = [
                f"{result.acknowledged:,}",
                str(result.lost),
                str(result.duplicated),
                str(result.reordered),
                f"{result.longest_s:.1f} ({result.others_s:.1f})",
                f"{result.unread_s:.1f}",
            ]
        title = titles[result.row]
        if result.trouble:
            title += f" **({result.trouble})**"
        lines.append(_line([title, result.system, *figures]))
    return "\n".join(lines)


def _rank(result: Result) -> tuple[bool, str]:
    return not result.system.startswith("Barnabas"), result.system


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def page_with(page: str, text: str) -> str:
    """The page with another text between its markers."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"


def merged(path: Path, results: Sequence[Result]) -> list[Result]:
    """What was found earlier, with what was found now in its place; kept in a file of its own."""
    known = {}
    if path.exists():
        known = {(each["row"], each["system"]): Result(**each) for each in json.loads(path.read_text())}
    known |= {(each.row, each.system): each for each in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([dataclasses.asdict(each) for each in known.values()], indent=1) + "\n")
    return list(known.values())
