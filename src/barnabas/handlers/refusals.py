"""A log line for each refused request, and never more of them than a person can read.

The line says who asked (client id, address), what for and why it was refused. A client in a loop must not fill the disk: after
`max_per_interval` lines within an interval only the number of the others is told.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.wire.apis import APIS

if TYPE_CHECKING:
    from barnabas.clock import Clock
    from barnabas.handlers.services import RequestContext

__all__ = ["RefusalLog"]

logger = logging.getLogger("barnabas.refused")


class RefusalLog:
    """Writes the lines of one broker.

    Args:
        clock: For the interval.
        max_per_interval: Lines in one interval.
        interval_ms: Its length.
    """

    __slots__ = ("_clock", "_interval_ms", "_max_per_interval", "_since_ms", "_suppressed", "_written")

    def __init__(self, clock: Clock, *, max_per_interval: int = 50, interval_ms: int = 10_000) -> None:
        self._clock = clock
        self._max_per_interval = max_per_interval
        self._interval_ms = interval_ms
        self._since_ms = clock.monotonic_ms()
        self._written = 0
        self._suppressed = 0

    def write(self, context: RequestContext, subject: str, error: Exception) -> None:
        """Says that `context`'s request was refused for `subject` (a topic partition, a group, …)."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._since_ms >= self._interval_ms:
            if self._suppressed:
                logger.info("requests refused without a line of their own count=%d", self._suppressed)
            self._since_ms = now_ms
            self._written = 0
            self._suppressed = 0
        if self._written >= self._max_per_interval:
            self._suppressed += 1
            return
        self._written += 1
        api = APIS.get(context.api_key)
        logger.info(
            "request refused api=%s version=%d client_id=%s client=%s subject=%s reason=%s",
            api.name if api else context.api_key,
            context.api_version,
            context.client_id,
            context.connection.client_address,
            subject,
            error,
        )
