"""The fetchers of one broker: each partition that it follows is with one of the fetchers of its leader.

A fetcher is there as long as it has partitions. A partition whose disk failed is with none, until it has another leader or epoch.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from zlib import crc32

from barnabas.replication.fetch_plan import FetchPlan, FetchPlanSettings
from barnabas.replication.fetcher import Fetcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.metrics import Registry
    from barnabas.replication.fetch_plan import FollowerQuota
    from barnabas.replication.fetcher import LeaderLink
    from barnabas.replication.partition import Partition

__all__ = ["ReplicaFetchers"]

_NO_LEADER = -1


class ReplicaFetchers:
    """See the module.

    Args:
        node_id: This broker.
        config: The keys `replica.*` and `num.replica.fetchers`.
        broker_epoch: Gives this broker's epoch as the controller knows it.
        connect: Connects to a broker, wherever it is now; KafkaError when it cannot be reached.
        clock: The time.
        loop: The event loop.
        quota: Of throttled replicas.
        full_directories: Gives the ids of the log directories that have no room.
    """

    __slots__ = (
        "_assigned",
        "_broker_epoch",
        "_clock",
        "_closing",
        "_config",
        "_connect",
        "_failed",
        "_fetchers",
        "_full_directories",
        "_is_closed",
        "_loop",
        "_node_id",
        "_quota",
        "_settings",
    )

    def __init__(
        self,
        *,
        node_id: int,
        config: BrokerConfig,
        broker_epoch: Callable[[], int],
        connect: Callable[[int], Awaitable[LeaderLink]],
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        quota: FollowerQuota | None = None,
        full_directories: Callable[[], Collection[bytes]] = tuple,
    ) -> None:
        self._node_id = node_id
        self._config = config
        self._broker_epoch = broker_epoch
        self._connect = connect
        self._clock = clock
        self._loop = loop
        self._quota = quota
        self._full_directories = full_directories
        self._settings = FetchPlanSettings(
            partition_max_bytes=config["replica.fetch.max.bytes"],
            response_max_bytes=config["replica.fetch.response.max.bytes"],
            min_bytes=config["replica.fetch.min.bytes"],
            wait_max_ms=config["replica.fetch.wait.max.ms"],
            backoff_ms=config["replica.fetch.backoff.ms"],
        )
        self._fetchers: dict[tuple[int, int], Fetcher] = {}
        self._assigned: dict[Partition, tuple[int, int]] = {}
        self._failed: set[Partition] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def register_metrics(self, registry: Registry) -> None:
        """Shows what Kafka's `ReplicaFetcherManager` shows."""
        prefix = "kafka_server_replicafetchermanager_"
        registry.gauge_function(
            prefix + "maxlag",
            lambda: max((fetcher.plan.max_lag() for fetcher in self._fetchers.values()), default=0),
        )
        registry.gauge_function(prefix + "failedpartitionscount", lambda: len(self._failed))

    def on_leadership(self, partition: Partition) -> None:
        """A partition has another leader, or another epoch, or is gone (a leader of -1)."""
        if self._is_closed:
            return
        self._failed.discard(partition)
        leader = partition.leader_id
        before = self._assigned.get(partition)
        if leader in (_NO_LEADER, self._node_id):
            if before is not None:
                self._remove(partition)
            return
        # Spread by name, so that a leader's fetchers get about the same.
        number = (crc32(partition.topic_id) + partition.index) % self._config["num.replica.fetchers"]
        key = (leader, number)
        if before is not None and before != key:
            self._remove(partition)
        fetcher = self._fetchers.get(key)
        if fetcher is None:
            fetcher = self._fetchers[key] = self._new(leader)
        self._assigned[partition] = key
        fetcher.add(partition)

    def _new(self, leader: int) -> Fetcher:
        config = self._config
        plan = FetchPlan(
            self._node_id,
            broker_epoch=self._broker_epoch,
            settings=self._settings,
            quota=self._quota,
            full_directories=self._full_directories,
            on_failed=self._note_failed,
        )
        return Fetcher(
            leader,
            plan,
            connect=self._connect,
            node_id=self._node_id,
            timeout_ms=config["replica.socket.timeout.ms"],
            backoff_ms=config["replica.fetch.backoff.ms"],
            clock=self._clock,
            loop=self._loop,
        )

    def _note_failed(self, partition: Partition) -> None:
        if self._is_closed:
            return
        self._remove(partition)
        self._failed.add(partition)

    def _remove(self, partition: Partition) -> None:
        key = self._assigned.pop(partition)
        fetcher = self._fetchers[key]
        fetcher.remove(partition)
        if len(fetcher.plan) == 0:
            del self._fetchers[key]
            task = self._loop.create_task(fetcher.close(), name="close a fetcher")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Fetches no more."""
        self._is_closed = True
        fetchers, self._fetchers = self._fetchers, {}
        self._assigned.clear()
        self._failed.clear()
        await asyncio.gather(*(fetcher.close() for fetcher in fetchers.values()), *self._closing)
