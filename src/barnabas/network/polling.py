"""Looking for the next request for a moment before the loop sleeps.

A client that waits for each answer sends its next request some 30 µs after the answer has left. By then a loop that sleeps
has lost its core, and to be woken takes longer than to serve the request. So the loop goes on asking the kernel for a
moment, as the idle governors of virtual machines do (`haltpoll`), and only where that pays: after a look in vain it sleeps at
once for the next time, after a second one for the next three times, and so on up to `SKIPPED_MAX`.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["SKIPPED_MAX", "Polling"]

SKIPPED_MAX = 255
"""How often the loop sleeps at once between two looks, if none of them ever finds anything."""


class Polling:
    """Keeps `loop` from sleeping for a while after each answer, as long as that pays.

    Args:
        loop: Turns without waiting while a callback is scheduled.
        poll_us: How long it looks for the next request (`barnabas.poll.us`); 0 never.
    """

    __slots__ = ("_is_looking", "_loop", "_poll_s", "_skipped", "_skips", "_until_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, poll_us: int) -> None:
        self._loop = loop
        self._poll_s = poll_us / 1e6
        self._until_s = 0.0
        self._is_looking = False
        self._skips = 0
        self._skipped = 0

    @property
    def is_looking(self) -> bool:
        """Whether the loop turns without waiting now."""
        return self._is_looking

    def configure(self, poll_us: int) -> None:
        """Takes over another `poll_us`."""
        self._poll_s = poll_us / 1e6

    def after_answers(self) -> None:
        """Answers have left: more requests may follow at once."""
        if self._is_looking:
            self._skips = 0
            self._until_s = perf_counter() + self._poll_s
        elif self._skipped < self._skips:
            self._skipped += 1
        elif self._poll_s:
            self._skipped = 0
            self._is_looking = True
            self._until_s = perf_counter() + self._poll_s
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        if perf_counter() < self._until_s:
            self._loop.call_soon(self._look)
        else:
            self._is_looking = False
            self._skips = min(2 * self._skips + 1, SKIPPED_MAX)
