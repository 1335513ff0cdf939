"""The partitions that this broker hosts: follows the metadata image, and finds a partition for a request."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DiskFullError, ErrorCode, KafkaError, StorageError
from barnabas.replication.partition import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    READ_COMMITTED,
    UNKNOWN_TIMESTAMP,
    OffsetAndTimestamp,
    Partition,
)
from barnabas.replication.topic_metrics import TopicMetrics

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Iterator

    from barnabas.config.topic import LogConfig
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.log_directories import LogDirectories
    from barnabas.log.partition_log import PartitionLog
    from barnabas.metadata.image import Topic
    from barnabas.metrics import Registry
    from barnabas.replication.leader_duties import LeaderDuties

__all__ = ["Replicas"]

logger = logging.getLogger(__name__)


_BEGIN_SLICE_S = 0.002
_ROOM_WAIT_S = 1.0
"""After so long it is tried again to begin logs for which there was no room."""


class _Unbegun(NamedTuple):
    """A partition whose log is still to be begun."""

    topic_id: bytes
    is_new: bool


class Replicas:
    """(topic, partition) -> `Partition`, for every replica placed on this broker.

    Args:
        node_id: This broker.
        log_directories: Where the logs lie.
        group_commit: The shared fsync that acknowledgements may wait for.
        durability: `barnabas.durability`.
        log_config: Gives the settings of a topic's logs by its name.
        loop: Where new logs are begun, a few in each turn.
        metrics: Where topics are counted.
        on_placement: Called with topic id, partition and directory id when a log lies elsewhere than the metadata says.
        duties: Of the leaders of partitions with followers; None on a single node.
    """

    __slots__ = (
        "_by_id",
        "_by_name",
        "_durability",
        "_duties",
        "_group_commit",
        "_leadership_listeners",
        "_log_config",
        "_log_directories",
        "_loop",
        "_metrics",
        "_node_id",
        "_on_placement",
        "_opener",
        "_topic_metrics",
        "_topics",
        "_topics_by_id",
        "_unbegun",
    )

    def __init__(
        self,
        *,
        node_id: int,
        log_directories: LogDirectories,
        group_commit: GroupCommit,
        durability: str,
        log_config: Callable[[str], LogConfig],
        loop: asyncio.AbstractEventLoop,
        metrics: Registry,
        on_placement: Callable[[bytes, int, bytes], None] = lambda _topic_id, _index, _directory_id: None,
        duties: LeaderDuties | None = None,
    ) -> None:
        self._node_id = node_id
        self._duties = duties
        self._on_placement = on_placement
        self._opener = self._open_log  # one for all partitions
        self._log_directories = log_directories
        self._group_commit = group_commit
        self._durability = durability
        self._log_config = log_config
        self._by_name: dict[str, dict[int, Partition]] = {}
        self._by_id: dict[bytes, dict[int, Partition]] = {}
        self._topics: dict[str, Topic] = {}
        self._topics_by_id: dict[bytes, Topic] = {}
        self._loop = loop
        self._metrics = metrics
        self._topic_metrics: dict[str, TopicMetrics] = {}
        self._unbegun: dict[tuple[str, int], _Unbegun] = {}
        self._leadership_listeners: list[Callable[[Partition], None]] = []

    def __iter__(self) -> Iterator[Partition]:
        for partitions in self._by_name.values():
            yield from partitions.values()

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def register_metrics(self) -> None:
        """Shows what Kafka's `ReplicaManager` shows."""
        registry = self._metrics
        prefix = "kafka_server_replicamanager_"
        registry.gauge_function(prefix + "partitioncount", lambda: len(self))
        registry.gauge_function(
            prefix + "leadercount", lambda: sum(partition.is_leader for partition in self)
        )
        registry.gauge_function(
            prefix + "offlinereplicacount",
            lambda: sum(
                partition.log.is_offline
                if partition.is_open
                else self._log_directories.is_out_of_reach(partition.topic, partition.index)
                for partition in self
            ),
        )
        registry.gauge_function(
            prefix + "underreplicatedpartitions",
            lambda: sum(partition.is_leader and partition.is_under_replicated for partition in self),
        )
        registry.gauge_function(
            prefix + "partitionswithlatetransactionscount", lambda: sum(map(self._has_late_transaction, self))
        )
        missing = self._missing_in_sync
        registry.gauge_function(
            prefix + "underminisrpartitioncount", lambda: sum(number > 0 for number in missing())
        )
        registry.gauge_function(
            prefix + "atminisrpartitioncount", lambda: sum(number == 0 for number in missing())
        )

    def _has_late_transaction(self, partition: Partition) -> bool:
        """Whether a transaction of a partition is open for longer than any producer may ask for, and five minutes."""
        if not (partition.is_leader and partition.is_open) or partition.log.is_offline:
            return False
        directories = self._log_directories
        return partition.log.producer_state.has_late_transaction(
            directories.clock.now_ms(), directories.config["transaction.max.timeout.ms"]
        )

    def _missing_in_sync(self) -> Iterator[int]:
        config = functools.cache(self._log_config)
        return (partition.missing_in_sync(config) for partition in self if partition.is_leader)

    def add_leadership_listener(self, listener: Callable[[Partition], None]) -> None:
        """`listener(partition)` is called after each change of a partition's leader or epoch, and after its removal."""
        self._leadership_listeners.append(listener)

    # ----- finding

    def get(self, topic: str, index: int) -> Partition | None:
        """The replica on this broker, if there is one."""
        partitions = self._by_name.get(topic)
        return None if partitions is None else partitions.get(index)

    def leader(self, topic: str, index: int, current_leader_epoch: int = -1) -> Partition:
        """The partition, of which this broker is the leader in the epoch that the client knows.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH or
                UNKNOWN_LEADER_EPOCH.
        """
        partitions = self._by_name.get(topic)
        partition = None if partitions is None else partitions.get(index)
        if partition is None:
            raise self._not_here(self._topics.get(topic), index)
        if current_leader_epoch != -1:
            partition.check_epoch(current_leader_epoch)
        if partition.leader_id != self._node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return partition

    def leader_by_id(self, topic_id: bytes, index: int, current_leader_epoch: int = -1) -> Partition:
        """As `leader`, by topic id; UNKNOWN_TOPIC_ID where no topic has it."""
        partition = self.replica_by_id(topic_id, index, current_leader_epoch)
        if partition.leader_id != self._node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return partition

    def replica(self, topic: str, index: int, current_leader_epoch: int = -1) -> Partition:
        """As `leader`, whether this broker leads the partition or follows it (KIP-392)."""
        partition = self.get(topic, index)
        if partition is None:
            raise self._not_here(self._topics.get(topic), index)
        partition.check_epoch(current_leader_epoch)
        return partition

    def replica_by_id(self, topic_id: bytes, index: int, current_leader_epoch: int = -1) -> Partition:
        """As `leader_by_id`, whether this broker leads the partition or follows it."""
        partitions = self._by_id.get(topic_id)
        if partitions is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        partition = partitions.get(index)
        if partition is None:
            raise self._not_here(self._topics_by_id.get(topic_id), index)
        if current_leader_epoch != -1:
            partition.check_epoch(current_leader_epoch)
        return partition

    @staticmethod
    def _not_here(topic: Topic | None, index: int) -> KafkaError:
        """Of a partition that others host, or of one that there is not."""
        exists = topic is not None and 0 <= index < len(topic.partitions)
        return KafkaError(
            ErrorCode.NOT_LEADER_OR_FOLLOWER if exists else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )

    def offset_of_closed(
        self, partition: Partition, timestamp_ms: int, isolation_level: int | None
    ) -> OffsetAndTimestamp | None:
        """What `Partition.list_offset` gives, where it is known of a log that nobody has needed yet.

        Whoever watches all partitions of a cluster asks for their ends, and is not to have them opened for it. Followers and leaders of
        followers, and all that takes a look at records or transactions, are not known in that way.

        Returns:
            None if the log has to be asked.

        Raises:
            StorageError: the log is still to be begun, and cannot be.
        """
        if partition.is_open or partition.leading is not None or not partition.is_leader:
            return None
        if (partition.topic, partition.index) in self._unbegun:
            self._begin_log(partition.topic, partition.index, partition.topic_id)
        end = self._log_directories.closed_end_offset(partition.topic, partition.index, partition.topic_id)
        if end is None:
            return None
        # Nothing begins, or is undecided, in a log that never had a record.
        is_end = timestamp_ms == LATEST_TIMESTAMP and isolation_level != READ_COMMITTED
        if is_end or (end == 0 and timestamp_ms in {LATEST_TIMESTAMP, EARLIEST_TIMESTAMP}):
            return OffsetAndTimestamp(end, UNKNOWN_TIMESTAMP, partition.leader_epoch)
        return None

    # ----- following the image

    def apply_topic(self, topic: Topic, *, is_new: bool) -> None:
        """Creates or updates the replicas of `topic` that are placed on this broker.

        Args:
            topic: The topic's state.
            is_new: Whether its newest partitions were created just now, so that no disk can hold them yet.

        Logs that there are already are opened when they are first needed. Those that are missing are begun in the turns of
        the loop to come, a few in each, or when they are first needed: a topic of thousands of partitions stalls nobody.
        """
        by_name = self._by_name.setdefault(topic.name, {})
        self._by_id[topic.id] = by_name
        self._topics[topic.name] = self._topics_by_id[topic.id] = topic
        for state in topic.partitions:
            partition = by_name.get(state.index)
            if self._node_id not in state.replicas:
                if partition is not None:
                    self._remove(by_name.pop(state.index))
                continue
            if partition is None:
                partition = self._partition(topic, state.index)
                by_name[state.index] = partition
                if is_new or not self._log_directories.has(topic.name, state.index):
                    self._begin_later(topic, state.index, is_new=is_new)
            before = (partition.leader_id, partition.leader_epoch)
            partition.apply(state)
            if before != (partition.leader_id, partition.leader_epoch):
                self._leadership_changed(partition)

    def resign(self) -> None:
        """Leads no partition any more that others may lead: the controller has fenced this broker.

        What the metadata says of them is old. The next that it says of each, in a new epoch, counts again.
        """
        for by_name in self._by_name.values():
            for partition in by_name.values():
                if partition.leading is not None:
                    partition.retire()
                    self._leadership_changed(partition)

    def _begin_later(self, topic: Topic, index: int, *, is_new: bool) -> None:
        if not self._unbegun:
            self._loop.call_soon(self._begin_some)
        self._unbegun[topic.name, index] = _Unbegun(topic.id, is_new)

    def _begin_some(self) -> None:
        """Begins missing logs for a moment, and goes on in the next turn."""
        until_s = self._loop.time() + _BEGIN_SLICE_S
        while self._unbegun and self._loop.time() < until_s:
            name, index = next(iter(self._unbegun))
            topic_id = self._unbegun[name, index].topic_id
            try:
                self._begin_log(name, index, topic_id)
            except DiskFullError:
                self._loop.call_later(_ROOM_WAIT_S, self._begin_some)
                return
            except StorageError as error:
                # Of a directory that is offline or missing as a whole it has been told.
                level = (
                    logging.DEBUG if self._log_directories.is_out_of_reach(name, index) else logging.WARNING
                )
                logger.log(level, "log is not begun log=%s-%d reason=%s", name, index, error)
        if self._unbegun:
            self._loop.call_soon(self._begin_some)

    def _open_log(self, name: str, index: int, topic_id: bytes) -> PartitionLog:
        self._begin_log(name, index, topic_id)
        return self._log_directories.create(name, index, topic_id, self._log_config(name))

    def _begin_log(self, name: str, index: int, topic_id: bytes) -> None:
        unbegun = self._unbegun.pop((name, index), None)
        known = self._by_id[topic_id][index].directory_id if topic_id in self._by_id else None
        try:
            hosted = self._log_directories.begin(
                name,
                index,
                topic_id,
                is_new=unbegun is not None and unbegun.is_new and unbegun.topic_id == topic_id,
                directory_id=known,
            )
        except DiskFullError:
            if unbegun is not None:
                self._unbegun[name, index] = unbegun
            raise
        actual = hosted.directory.directory_id
        if actual is not None and actual != known:
            self._on_placement(topic_id, index, actual)

    def _partition(self, topic: Topic, index: int) -> Partition:
        return Partition(
            topic.name,
            index,
            topic.id,
            node_id=self._node_id,
            open_log=self._opener,
            group_commit=self._group_commit,
            durability=self._durability,
            metrics=self._metrics_of(topic.name),
            duties=self._duties,
        )

    def _metrics_of(self, topic: str) -> TopicMetrics:
        metrics = self._topic_metrics.get(topic)
        if metrics is None:
            metrics = self._topic_metrics[topic] = TopicMetrics(self._metrics, topic)
        return metrics

    def remove_topic(self, name: str, topic_id: bytes) -> None:
        """Forgets a deleted topic; its logs are removed in the background."""
        partitions = self._by_id.pop(topic_id, {})
        self._topics_by_id.pop(topic_id, None)
        if self._by_name.get(name) is partitions:
            del self._by_name[name]
            del self._topics[name]
            self._topic_metrics.pop(name, None)
            self._metrics.forget(topic=name)
        for partition in partitions.values():
            self._remove(partition)

    def _remove(self, partition: Partition) -> None:
        """This broker hosts it no more: its topic is deleted, or its replica has gone elsewhere."""
        name, index = partition.topic, partition.index
        partition.retire()
        self._leadership_changed(partition)
        self._unbegun.pop((name, index), None)
        try:
            self._log_directories.delete(name, index)
        except StorageError as error:
            logger.warning("log is not deleted log=%s-%d reason=%s", name, index, error)

    def configure_topics(self, names: Collection[str]) -> None:
        """Takes over the settings of these topics, at once; a log that is not open gets them when it is opened.

        It goes by the logs, not the partitions: recovery and creation open logs before their partitions need them.
        """
        configs = {name: self._log_config(name) for name in names if name in self._by_name}
        for log in self._log_directories.all():
            config = configs.get(log.topic)
            if config is not None:
                log.config = config

    def configure_all(self) -> None:
        """Takes over the broker's settings, which are the defaults of every topic's."""
        self.configure_topics(self._by_name)

    def _leadership_changed(self, partition: Partition) -> None:
        for listener in self._leadership_listeners:
            listener(partition)
