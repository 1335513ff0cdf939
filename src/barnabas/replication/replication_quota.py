"""How fast throttled replicas are replicated, so that moving partitions leaves room for clients (KIP-73).

Which replicas are throttled stands in the topic's settings (`leader.` and `follower.replication.throttled.replicas`), how fast they may be in the
broker's (`leader.` and `follower.replication.throttled.rate`). Replicas that are in sync are never held back.

Source: `ReplicationQuotaManager` and `SimpleRate` of Kafka 4.3.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.clock import Clock
    from barnabas.config.topic import LogConfig
    from barnabas.replication.partition import Partition

__all__ = ["ReplicationQuota"]

_ALL = "*"


@functools.lru_cache(maxsize=1024)
def _indexes(throttled: tuple[str, ...], node_id: int) -> frozenset[int] | None:
    """The partitions whose replica on a node is meant; None for all."""
    if _ALL in throttled:
        return None
    pairs = (entry.split(":") for entry in throttled)
    return frozenset(int(index) for index, replica in pairs if int(replica) == node_id)


class ReplicationQuota:
    """One direction; see the module.

    Args:
        node_id: This broker.
        throttled: Takes the list of throttled replicas out of a topic's settings.
        rate_max: Gives the bytes per second, as the settings are now.
        windows: `replication.quota.window.num`, over which the rate is measured.
        window_ms: `replication.quota.window.size.seconds`.
        clock: The time.
    """

    __slots__ = ("_clock", "_node_id", "_rate_max", "_samples", "_throttled", "_window_ms", "_windows")

    def __init__(
        self,
        node_id: int,
        *,
        throttled: Callable[[LogConfig], tuple[str, ...]],
        rate_max: Callable[[], int],
        windows: int,
        window_ms: float,
        clock: Clock,
    ) -> None:
        self._node_id = node_id
        self._throttled = throttled
        self._rate_max = rate_max
        self._windows = windows
        self._window_ms = window_ms
        self._clock = clock
        # When each window began, and how many bytes there were in it.
        self._samples: deque[list[float]] = deque()

    def is_throttled(self, partition: Partition) -> bool:
        """Whether this broker's replica is."""
        if not partition.is_open:
            return False
        throttled = self._throttled(partition.log.config)
        if not throttled:
            return False
        indexes = _indexes(throttled, self._node_id)
        return indexes is None or partition.index in indexes

    def is_exceeded(self, partition: Partition) -> bool:
        """Whether the replica is throttled, and the rate is reached."""
        return self.is_throttled(partition) and self.rate() > self._rate_max()

    def record(self, partition: Partition, size_bytes: int) -> None:
        """So many bytes of this partition were replicated."""
        if not self.is_throttled(partition):
            return
        now_ms = self._clock.monotonic_ms()
        if not self._samples or now_ms - self._samples[-1][0] >= self._window_ms:
            self._samples.append([now_ms, 0.0])
        self._samples[-1][1] += size_bytes

    def rate(self) -> float:
        """Bytes per second of throttled replicas, over the windows."""
        now_ms = self._clock.monotonic_ms()
        samples = self._samples
        while samples and now_ms - samples[0][0] >= self._windows * self._window_ms:
            samples.popleft()
        if not samples:
            return 0.0
        return sum(size for _, size in samples) * 1000 / max(now_ms - samples[0][0], self._window_ms)
