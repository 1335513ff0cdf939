"""Tables on standard output: columns as wide as their widest cell, numbers to the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["table"]


def table(headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """The lines of a table, without one at the end."""
    widths = [max(map(len, map(str, column))) for column in zip(headings, *rows, strict=True)]
    numeric = [
        bool(rows) and all(isinstance(row[column], int) for row in rows) for column in range(len(headings))
    ]
    return "\n".join(
        "  ".join(
            str(cell).rjust(width) if right else str(cell).ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in (headings, *rows)
    )
