"""What the leaders of one broker share: the time, who is alive, the way to the controller, and a look at their followers now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.metrics import Counter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.clock import Clock
    from barnabas.metrics import Registry
    from barnabas.replication.isr_changes import Verdict
    from barnabas.replication.leading import Leading

__all__ = ["IsrProposal", "LeaderDuties"]

_LOOK_FOR_JOINERS_MS = 500.0


class IsrProposal(NamedTuple):
    """In-sync replicas as a leader wants them.

    `isr` holds pairs of node id and broker epoch, -1 where that is not known. The epochs are those of the leader, and of the
    partition's state that is to be changed.
    """

    topic_id: bytes
    partition_index: int
    leader_epoch: int
    partition_epoch: int
    isr: tuple[tuple[int, int], ...]


class LeaderDuties:
    """See the module.

    Args:
        node_id: This broker.
        clock: The time.
        loop: The event loop.
        lag_time_max_ms: `replica.lag.time.max.ms`.
        epoch_of: Gives the broker epoch of a node that is alive and does not shut down; None for another.
        propose: Brings a proposal to the controller and calls back with its verdict.
        tells_high_watermark: Whether followers are told of a new high watermark at once, because consumers may read from them.

    Attributes:
        lag_time_max_ms: See above; may be set.
        tells_high_watermark: See above.
        shrinks, expands, failed: Proposals that were made and refused.
    """

    __slots__ = (
        "_incomplete",
        "_leading",
        "_timer",
        "clock",
        "epoch_of",
        "expands",
        "failed",
        "lag_time_max_ms",
        "last_shrink_look_ms",
        "loop",
        "node_id",
        "propose",
        "shrinks",
        "tells_high_watermark",
    )

    def __init__(
        self,
        *,
        node_id: int,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        lag_time_max_ms: float,
        epoch_of: Callable[[int], int | None],
        propose: Callable[[IsrProposal, Callable[[Verdict], None]], None],
        tells_high_watermark: bool = False,
    ) -> None:
        self.node_id = node_id
        self.clock = clock
        self.loop = loop
        self.lag_time_max_ms = lag_time_max_ms
        self.epoch_of = epoch_of
        self.propose = propose
        self.tells_high_watermark = tells_high_watermark
        self.shrinks = self.expands = self.failed = Counter()
        self.last_shrink_look_ms = clock.monotonic_ms()
        self._leading: dict[Leading, None] = {}
        self._incomplete: dict[Leading, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def register_metrics(self, registry: Registry) -> None:
        """Shows what Kafka's `ReplicaManager` shows of in-sync replicas."""
        prefix = "kafka_server_replicamanager_"
        self.shrinks = registry.counter(prefix + "isrshrinks_total")
        self.expands = registry.counter(prefix + "isrexpands_total")
        self.failed = registry.counter(prefix + "failedisrupdates_total")

    def add(self, leading: Leading) -> None:
        """This broker leads a partition with followers."""
        self._leading[leading] = None
        if self._timer is None:
            self._arm()

    def remove(self, leading: Leading) -> None:
        """It leads it no more."""
        self._leading.pop(leading, None)
        self._incomplete.pop(leading, None)

    def note_completeness(self, leading: Leading, *, is_complete: bool) -> None:
        """Whether all replicas of a partition are in sync."""
        if is_complete:
            self._incomplete.pop(leading, None)
        else:
            self._incomplete[leading] = None

    def look(self) -> None:
        """Proposes what has come due: followers that fell behind, and those that may join."""
        now_ms = self.clock.monotonic_ms()
        if now_ms - self.last_shrink_look_ms >= self.lag_time_max_ms / 2:
            self.last_shrink_look_ms = now_ms
            for leading in list(self._leading):
                leading.look_for_laggards(now_ms)
        self.look_for_joiners()

    def look_for_joiners(self) -> None:
        """Proposes followers that are in sync, and may have been refused before: when brokers change, and now and then."""
        for leading in list(self._incomplete):
            leading.look_for_joiners()

    def close(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._leading.clear()
        self._incomplete.clear()

    def _arm(self) -> None:
        delay_ms = min(self.lag_time_max_ms / 2, _LOOK_FOR_JOINERS_MS)
        self._timer = self.loop.call_later(delay_ms / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.look()
        if self._leading:
            self._arm()
