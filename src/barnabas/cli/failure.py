"""The one exception that ends a command with a sentence instead of a traceback."""

from __future__ import annotations

from barnabas.errors import BarnabasError

__all__ = ["CommandError"]


class CommandError(BarnabasError):
    """The command failed; the message is one sentence for the user, with the remedy where there is one."""
