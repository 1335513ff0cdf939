"""What a leader keeps of a follower's fetch session: which of its partitions there is something to tell of.

A follower may fetch thousands of partitions in one session, and most have no news most of the time. A partition is looked at
when the follower names it, when something happens to it, and until it has been told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from barnabas.replication.follower_progress import FollowerProgress
    from barnabas.replication.sessions import FetchedPartition

__all__ = ["Reader", "ReplicaSession"]

_Key = tuple[str | bytes, int]


class Reader:
    """One partition of a session (`ReplicaReader`)."""

    __slots__ = ("_key", "session")

    def __init__(self, session: ReplicaSession, key: _Key) -> None:
        self.session = session
        self._key = key

    @property
    def last_fetch_ms(self) -> float:
        """When the follower last fetched in this session."""
        return self.session.last_fetch_ms

    def mark(self) -> None:
        """There is something to tell."""
        self.session.ready[self._key] = None

    def wake(self) -> None:
        """There is something to tell now."""
        session = self.session
        session.ready[self._key] = None
        if session.wake_parked is not None:
            session.wake_parked()


class ReplicaSession:
    """See the module.

    Attributes:
        partitions: The session's, by their keys.
        ready: The keys of those that are to be looked at, in this order.
        broker_epoch: That of the process that fetches.
        last_fetch_ms: When the follower last fetched, by the monotonic clock.
        wake_parked: Makes the request that was parked last look again; None if there was none.
        cut_short: Answers it as it is; None if there was none.
    """

    __slots__ = (
        "_readers",
        "broker_epoch",
        "cut_short",
        "last_fetch_ms",
        "partitions",
        "ready",
        "wake_parked",
    )

    def __init__(self, partitions: dict[_Key, FetchedPartition]) -> None:
        self.partitions = partitions
        self.ready: dict[_Key, None] = dict.fromkeys(partitions)
        self.broker_epoch = -1
        self.last_fetch_ms = 0.0
        self.wake_parked: Callable[[], None] | None = None
        self.cut_short: Callable[[], None] | None = None
        self._readers: dict[_Key, tuple[FollowerProgress, Reader]] = {}

    def ask(self, keys: Iterable[_Key]) -> None:
        """The follower names these: they are looked at, and whatever it was told of them it is told again.

        It drops what answers an earlier request once it has more to say of a partition, a new high watermark too.
        """
        for key in keys:
            self.ready[key] = None
            fetched = self.partitions.get(key)
            if fetched is not None:
                fetched.told_high_watermark = -1

    def park(self, wake: Callable[[], None], cut_short: Callable[[], None]) -> None:
        """A request waits; both may be called at any time, also when it waits no more."""
        self.wake_parked = wake
        self.cut_short = cut_short

    def attach(self, key: _Key, progress: FollowerProgress) -> None:
        """The follower reads this partition in this session from now on."""
        known = self._readers.get(key)
        if known is not None and known[0] is progress and progress.reader is known[1]:
            return
        reader = Reader(self, key)
        self._readers[key] = progress, reader
        progress.reader = reader

    def detach(self, key: _Key) -> None:
        """It reads it here no more."""
        self.ready.pop(key, None)
        known = self._readers.pop(key, None)
        if known is not None and known[0].reader is known[1]:
            known[0].left_behind()
            known[0].reader = None
