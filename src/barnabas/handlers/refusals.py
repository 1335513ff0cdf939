"""A log line for each refused request, and never more of them than a person can read; all of them are counted.

The line says who asked (client id, address), what for and why it was refused. A client in a loop must not fill the disk: after
`max_per_interval` lines within an interval only the number of the others is told.

After an election clients and followers find out that a partition or a coordinator is elsewhere by asking where it was. That is as it has to be:
of all these the first within an interval has a line, and the others are counted in one; with logging at DEBUG each has its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.apis import APIS

if TYPE_CHECKING:
    from barnabas.clock import Clock
    from barnabas.handlers.services import RequestContext
    from barnabas.metrics import Registry

__all__ = ["RefusalLog"]

logger = logging.getLogger("barnabas.refused")


_MOVED = frozenset(
    (
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.NOT_CONTROLLER,
    )
)
"""What is answered while leadership moves; whoever asks tries again elsewhere, or in a moment."""


class RefusalLog:
    """Writes the lines of one broker.

    Args:
        clock: For the interval.
        max_per_interval: Lines in one interval.
        interval_ms: Its length.
    """

    __slots__ = (
        "_clock",
        "_counts",
        "_interval_ms",
        "_max_per_interval",
        "_moved",
        "_since_ms",
        "_suppressed",
        "_written",
    )

    def __init__(self, clock: Clock, *, max_per_interval: int = 50, interval_ms: int = 10_000) -> None:
        self._clock = clock
        self._max_per_interval = max_per_interval
        self._interval_ms = interval_ms
        self._since_ms = clock.monotonic_ms()
        self._written = 0
        self._suppressed = 0
        self._moved = 0
        self._counts: dict[tuple[int, ErrorCode], int] = {}

    def register_metrics(self, registry: Registry) -> None:
        """Shows how many there were, by API and error."""
        registry.listed(
            "kafka_network_requestmetrics_errors_total",
            lambda: [((APIS[key].name, code.name), count) for (key, code), count in self._counts.items()],
        )

    def write(self, context: RequestContext, subject: str, error: Exception) -> None:
        """Says that `context`'s request was refused for `subject` (a topic partition, a group, …)."""
        code = error.code if isinstance(error, KafkaError) else ErrorCode.UNKNOWN_SERVER_ERROR
        key = (context.api_key, code)
        self._counts[key] = self._counts.get(key, 0) + 1
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._since_ms >= self._interval_ms:
            self._begin_interval(now_ms)
        level = logging.INFO
        if code in _MOVED:
            self._moved += 1
            if self._moved > 1:
                level = logging.DEBUG
        elif self._written >= self._max_per_interval:
            self._suppressed += 1
            return
        else:
            self._written += 1
        logger.log(
            level,
            "request refused api=%s version=%d client_id=%s client=%s subject=%s reason=%s",
            APIS[context.api_key].name,
            context.api_version,
            context.client_id,
            context.connection.client_address,
            subject,
            error,
        )

    def _begin_interval(self, now_ms: float) -> None:
        if self._suppressed:
            logger.info("requests refused without a line of their own count=%d", self._suppressed)
        if self._moved > 1:
            logger.info("requests refused since what they ask for has moved count=%d", self._moved)
        self._since_ms = now_ms
        self._written = self._suppressed = self._moved = 0
