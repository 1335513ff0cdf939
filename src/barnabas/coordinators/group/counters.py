"""What the group coordinator counts, for whoever watches the broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from barnabas.metrics import Counter

if TYPE_CHECKING:
    from barnabas.metrics import Registry

__all__ = ["GroupCounters"]

_PREFIX = "kafka_server_group_coordinator_metrics_"


@dataclass(slots=True)
class GroupCounters:
    """Offsets committed, expired and deleted on request; rebalances.

    Those of classic groups are counted when they come to an assignment, those of consumer groups when they begin.
    """

    commits: Counter = field(default_factory=Counter)
    expirations: Counter = field(default_factory=Counter)
    deletions: Counter = field(default_factory=Counter)
    rebalances: Counter = field(default_factory=Counter)
    consumer_rebalances: Counter = field(default_factory=Counter)

    @classmethod
    def of(cls, registry: Registry) -> GroupCounters:
        """The counters that the broker's metrics show."""
        return cls(
            commits=registry.counter(f"{_PREFIX}offset_commit_count"),
            expirations=registry.counter(f"{_PREFIX}offset_expiration_count"),
            deletions=registry.counter(f"{_PREFIX}offset_deletion_count"),
            rebalances=registry.counter(f"{_PREFIX}group_completed_rebalance_count"),
            consumer_rebalances=registry.counter(f"{_PREFIX}consumer_group_rebalance_count"),
        )
