"""Figures of several rounds, and the table and JSON made of them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

__all__ = ["Row", "Table"]

OURS, THEIRS = "barnabas", "kafka"
HEAD = (
    "| What | Durability | Unit | Barnabas: median (min to max) | Apache Kafka 4.3 | Times ahead |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


@dataclass
class Row:
    """One figure of both brokers. `durability` is the class that both were measured in, or empty where it plays no part."""

    section: str
    name: str
    durability: str
    unit: str
    more_is_better: bool
    figures: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better Barnabas is, by the medians; None if only one of them was measured."""
        if not (self.figures.get(OURS) and self.figures.get(THEIRS)):
            return None
        ours, theirs = statistics.median(self.figures[OURS]), statistics.median(self.figures[THEIRS])
        better, worse = (ours, theirs) if self.more_is_better else (theirs, ours)
        return better / worse if worse else float("inf") if better else 1.0

    def line(self) -> str:
        cells = [self.name, self.durability, self.unit, self._cell(OURS), self._cell(THEIRS)]
        ratio = self.ratio
        cells.append("" if ratio is None else f"**{ratio:.2f}**" if ratio < 1 else f"{ratio:.2f}")
        return f"| {' | '.join(cells)} |"

    def _cell(self, broker: str) -> str:
        figures = self.figures.get(broker)
        if not figures:
            return "not measured"
        median = statistics.median(figures)
        return f"{_short(median)} ({_short(min(figures))} to {_short(max(figures))})"


class Table:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.skipped: list[str] = []
        self.failed: list[str] = []

    def add(
        self,
        section: str,
        broker,
        name: str,
        unit: str,
        figure: float,
        *,
        more_is_better: bool,
        durability: str = "",
    ) -> None:
        row = self.rows.setdefault(
            (name, unit, durability), Row(section, name, durability, unit, more_is_better)
        )
        row.figures.setdefault(broker.name, []).append(figure)

    def markdown(self) -> str:
        """A table for each section, and below them those rows again in which Barnabas is behind."""
        rows = list(self.rows.values())
        behind = [row for row in rows if (row.ratio or 1) < 1]
        behind.sort(key=lambda row: row.ratio)
        parts = [
            (section, [row for row in rows if row.section == section])
            for section in dict.fromkeys(row.section for row in rows)
        ]
        if behind:
            parts.append(("Where Barnabas is behind", behind))
        return "\n".join(
            "\n".join([f"### {title}", "", HEAD, *(row.line() for row in part), ""]) for title, part in parts
        )

    def json(self) -> list[dict[str, object]]:
        return [
            {
                "section": row.section,
                "name": row.name,
                "durability": row.durability,
                "unit": row.unit,
                "more_is_better": row.more_is_better,
                "figures": row.figures,
                "times_ahead": row.ratio,
            }
            for row in self.rows.values()
        ]


def _short(figure: float) -> str:
    """Three digits that count, as people read them: 0.0123, 1.23, 12.3, 123, 12,345."""
    size = abs(figure)
    if size >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if size >= 10 else f"{figure:.2f}" if size >= 1 else f"{figure:.3g}"
