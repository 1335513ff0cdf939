"""The `barnabas` command."""

from __future__ import annotations

__all__ = ["main"]


def main() -> int:
    """Runs the command line and returns the exit status."""
    return 0
