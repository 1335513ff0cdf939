"""What a fuzzer found: said, and kept so that it can be repeated."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PATIENCE_S", "Finding", "log_flaws", "save"]

PATIENCE_S = 120
"""How long an answer may take while others keep the machine busy. What hangs takes longer."""

_FLAW = re.compile(r"Traceback \(most recent call last\)|level=critical|never awaited|never retrieved")


class Finding(AssertionError):  # noqa: N818 - it is what a fuzzer looks for
    """The broker did what it must never do."""


def log_flaws(log: str) -> str | None:
    """The first traceback or the like in a log, with what stands around it."""
    found = _FLAW.search(log)
    return None if found is None else log[max(0, found.start() - 500) : found.end() + 3000]


def save(directory: Path, name: str, **content) -> Path:
    """Writes a finding down; gives the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(content, indent=1))
    return path
