"""How far a follower has come, as its leader sees it.

A follower says where it stands by the offset from which it fetches: it holds everything below. It counts as caught up at a time
if it had by then everything that the leader had when it last looked.

Source: `org.apache.kafka.server.replica.Replica` of Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNKNOWN_OFFSET", "FollowerProgress", "ReplicaReader"]

UNKNOWN_OFFSET = -1
UNKNOWN_EPOCH = -1


class ReplicaReader(Protocol):
    """A follower's fetch session, as far as one partition is concerned."""

    @property
    def last_fetch_ms(self) -> float:
        """When the follower last fetched in this session, whether it named the partition or not."""
        ...

    def mark(self) -> None:
        """There is something to tell of this partition when the follower is next answered."""
        ...

    def wake(self) -> None:
        """As `mark`, and it is worth an answer now."""
        ...


class FollowerProgress:
    """One follower of one partition. Times are monotonic milliseconds.

    Attributes:
        node_id: The follower.
        broker_epoch: That of the process which fetched last, -1 if it did not say or never fetched.
        has_fetched: Whether it fetched since this broker leads.
        log_start_offset: Of the follower's log.
        log_end_offset: Of the follower's log; `UNKNOWN_OFFSET` before the first fetch.
        last_caught_up_ms: When it last held everything.
        reader: Its fetch session, if it has one.
    """

    __slots__ = (
        "_last_fetch_end_offset",
        "_last_fetch_ms",
        "broker_epoch",
        "has_fetched",
        "last_caught_up_ms",
        "log_end_offset",
        "log_start_offset",
        "node_id",
        "reader",
    )

    def __init__(self, node_id: int, last_caught_up_ms: float) -> None:
        self.node_id = node_id
        self.broker_epoch = UNKNOWN_EPOCH
        self.has_fetched = False
        self.log_start_offset = UNKNOWN_OFFSET
        self.log_end_offset = UNKNOWN_OFFSET
        self.last_caught_up_ms = last_caught_up_ms
        self.reader: ReplicaReader | None = None
        self._last_fetch_ms = last_caught_up_ms
        self._last_fetch_end_offset = UNKNOWN_OFFSET

    def __repr__(self) -> str:
        return f"<FollowerProgress {self.node_id} {self.log_start_offset}..{self.log_end_offset}>"

    def fetched(
        self,
        log_end_offset: int,
        log_start_offset: int,
        broker_epoch: int,
        *,
        leader_end_offset: int,
        now_ms: float,
    ) -> None:
        """The follower fetches from `log_end_offset` on, while the leader's log ends at `leader_end_offset`."""
        if log_end_offset >= leader_end_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, now_ms)
        elif log_end_offset >= self._last_fetch_end_offset and self.has_fetched:
            # It has by now what there was when it fetched before.
            self.last_caught_up_ms = max(self.last_caught_up_ms, self._last_fetch_ms)
        self.has_fetched = True
        self.broker_epoch = broker_epoch
        self.log_end_offset = log_end_offset
        self.log_start_offset = log_start_offset
        self._last_fetch_ms = now_ms
        self._last_fetch_end_offset = max(leader_end_offset, self._last_fetch_end_offset)

    def left_behind(self) -> None:
        """The leader appends, while the follower holds everything.

        It was caught up whenever it last fetched, though an incremental fetch names no partition without news.
        """
        if self.reader is not None:
            self.last_caught_up_ms = max(self.last_caught_up_ms, self.reader.last_fetch_ms)

    def is_caught_up(self, leader_end_offset: int, now_ms: float, lag_time_max_ms: float) -> bool:
        """Whether it holds everything, or did a short while ago."""
        return self.log_end_offset == leader_end_offset or now_ms - self.last_caught_up_ms <= lag_time_max_ms

    def is_eligible(self, epoch_of: Callable[[int], int | None]) -> bool:
        """Whether it may join the in-sync replicas: alive, and fetching as the process that the controller knows.

        Args:
            epoch_of: Gives the broker epoch of a node that is alive and does not shut down; None for another.
        """
        known = epoch_of(self.node_id)
        return known is not None and self.has_fetched and self.broker_epoch in (UNKNOWN_EPOCH, known)
