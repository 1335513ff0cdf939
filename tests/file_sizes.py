"""The files of a directory in which a broker is at work."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["file_sizes"]


def file_sizes(directory: Path, pattern: str) -> dict[str, int]:
    """Name -> bytes of those that match; without the ones that the broker deletes or renames meanwhile."""
    sizes = {}
    for path in sorted(directory.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):
            sizes[path.name] = path.stat().st_size
    return sizes
