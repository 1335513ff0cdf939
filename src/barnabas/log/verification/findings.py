"""What a verification found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Finding", "Findings"]


class Finding(NamedTuple):
    """Something about a file or directory.

    `is_problem` says that data is lost or wrong, or that a broker will not start; else it is worth knowing, and the next start
    deals with it.
    """

    path: Path
    text: str
    is_problem: bool

    def __str__(self) -> str:
        return f"{'PROBLEM' if self.is_problem else 'note'}  {self.path}: {self.text}"


class Findings:
    """Counts what was looked at, and hands each finding on as it comes.

    Args:
        tell: called with each finding.

    Attributes:
        problems: how many there are.
        notes: how many others.
        partitions: how many were looked at.
        segments: likewise.
        batches: likewise.
        records: what their headers say.
        bytes_read: of segments.
    """

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        self._tell = tell
        self.problems = 0
        self.notes = 0
        self.partitions = 0
        self.segments = 0
        self.batches = 0
        self.records = 0
        self.bytes_read = 0

    def problem(self, path: Path, text: str) -> None:
        """Something is wrong."""
        self.problems += 1
        self._tell(Finding(path, text, True))

    def note(self, path: Path, text: str) -> None:
        """Something is worth knowing."""
        self.notes += 1
        self._tell(Finding(path, text, False))
