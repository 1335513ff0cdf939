"""Replication between the brokers of a cluster, put together: what a broker leads with followers, and what it follows.

A broker that is a cluster of its own has none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.client.broker_connection import ClientLimits, connect
from barnabas.errors import ErrorCode, KafkaError
from barnabas.replication.isr_changes import IsrChanges
from barnabas.replication.leader_duties import LeaderDuties
from barnabas.replication.read_replicas import ReadReplicas, is_by_rack
from barnabas.replication.replica_fetchers import ReplicaFetchers
from barnabas.replication.replication_quota import ReplicationQuota

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from barnabas.client.broker_connection import BrokerConnection
    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.metadata.deltas import MetadataDelta
    from barnabas.metadata.image import MetadataImage
    from barnabas.metrics import Registry
    from barnabas.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse

__all__ = ["Replication"]


class Replication:
    """See the module.

    Args:
        node_id: This broker.
        config: Its settings.
        image: Gives the cluster as it is now.
        listener: The listener over which brokers talk to each other.
        alter_partition: Sends a request to the controller, whichever that is.
        clock: The time.
        loop: The event loop.

    Attributes:
        duties: Of the leaders.
        fetchers: Of the followers.
        leader_quota: Of what throttled followers are sent.
        read_replicas: Where consumers had better read, if that is not always the leader.
    """

    __slots__ = (
        "_image",
        "_isr_changes",
        "_listener",
        "_node_id",
        "duties",
        "fetchers",
        "leader_quota",
        "read_replicas",
    )

    def __init__(
        self,
        *,
        node_id: int,
        config: BrokerConfig,
        image: Callable[[], MetadataImage],
        listener: str,
        alter_partition: Callable[[AlterPartitionRequest], asyncio.Future[AlterPartitionResponse]],
        full_directories: Callable[[], Collection[bytes]],
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._node_id = node_id
        self._image = image
        self._listener = listener
        by_rack = is_by_rack(config["replica.selector.class"])
        self._isr_changes = IsrChanges(
            node_id=node_id, broker_epoch=self._own_epoch, alter_partition=alter_partition, loop=loop
        )
        self.duties = LeaderDuties(
            node_id=node_id,
            clock=clock,
            loop=loop,
            lag_time_max_ms=config["replica.lag.time.max.ms"],
            epoch_of=self._epoch_of,
            propose=self._isr_changes.submit,
            tells_high_watermark=by_rack,
        )
        self.read_replicas = ReadReplicas(node_id, image) if by_rack else None
        windows = config["replication.quota.window.num"]
        window_ms = config["replication.quota.window.size.seconds"] * 1000.0
        self.leader_quota = ReplicationQuota(
            node_id,
            throttled=lambda topic: topic.leader_replication_throttled_replicas,
            rate_max=lambda: int(config["leader.replication.throttled.rate"]),
            windows=windows,
            window_ms=window_ms,
            clock=clock,
        )
        follower_quota = ReplicationQuota(
            node_id,
            throttled=lambda topic: topic.follower_replication_throttled_replicas,
            rate_max=lambda: int(config["follower.replication.throttled.rate"]),
            windows=windows,
            window_ms=window_ms,
            clock=clock,
        )
        self.fetchers = ReplicaFetchers(
            node_id=node_id,
            config=config,
            broker_epoch=self._own_epoch,
            connect=self._connect,
            clock=clock,
            loop=loop,
            quota=follower_quota,
            full_directories=full_directories,
        )

    def register_metrics(self, registry: Registry) -> None:
        """Shows what it does."""
        self.duties.register_metrics(registry)
        self.fetchers.register_metrics(registry)

    def on_metadata(self, image: MetadataImage, delta: MetadataDelta) -> None:
        """Brokers came or went: some followers may join now."""
        del image
        if delta.changed_brokers:
            self.duties.look_for_joiners()

    async def close(self) -> None:
        """Follows and leads no more."""
        self._isr_changes.close()
        self.duties.close()
        await self.fetchers.close()

    def _own_epoch(self) -> int:
        broker = self._image().brokers.get(self._node_id)
        return -1 if broker is None else broker.epoch

    def _epoch_of(self, node_id: int) -> int | None:
        broker = self._image().brokers.get(node_id)
        return broker.epoch if broker is not None and broker.is_active else None

    def endpoint_of(self, node_id: int) -> tuple[str, int] | None:
        """Where another broker is reached; None if that is not known."""
        broker = self._image().brokers.get(node_id)
        return None if broker is None else broker.endpoints.get(self._listener)

    async def _connect(self, node_id: int) -> BrokerConnection:
        endpoint = self.endpoint_of(node_id)
        if endpoint is None:
            raise KafkaError(
                ErrorCode.BROKER_NOT_AVAILABLE, f"broker {node_id} has no listener {self._listener}"
            )
        return await connect(
            *endpoint,
            client_id=f"broker-{self._node_id}-fetcher",
            limits=ClientLimits(connect_timeout_ms=5_000),
        )
