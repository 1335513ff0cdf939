"""The partitions that this broker hosts: follows the metadata image, and finds a partition for a request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.replication.partition import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from barnabas.config.topic import LogConfig
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.log_directories import LogDirectories
    from barnabas.metadata.image import Topic

__all__ = ["Replicas"]

logger = logging.getLogger(__name__)


class Replicas:
    """(topic, partition) -> `Partition`, for every replica placed on this broker.

    Args:
        node_id: This broker.
        log_directories: Where the logs lie.
        group_commit: The shared fsync that acknowledgements may wait for.
        durability: `barnabas.durability`.
        log_config: Gives the settings of a topic's logs from its overrides.
    """

    __slots__ = (
        "_by_id",
        "_by_name",
        "_durability",
        "_group_commit",
        "_leadership_listeners",
        "_log_config",
        "_log_directories",
        "_node_id",
        "_offline",
    )

    def __init__(
        self,
        *,
        node_id: int,
        log_directories: LogDirectories,
        group_commit: GroupCommit,
        durability: str,
        log_config: Callable[[Mapping[str, str]], LogConfig],
    ) -> None:
        self._node_id = node_id
        self._log_directories = log_directories
        self._group_commit = group_commit
        self._durability = durability
        self._log_config = log_config
        self._by_name: dict[str, dict[int, Partition]] = {}
        self._by_id: dict[bytes, dict[int, Partition]] = {}
        self._offline: set[tuple[str, int]] = set()
        self._leadership_listeners: list[Callable[[Partition], None]] = []

    def __iter__(self) -> Iterator[Partition]:
        for partitions in self._by_name.values():
            yield from partitions.values()

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    @property
    def offline_count(self) -> int:
        """Replicas whose log directory failed."""
        return len(self._offline)

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
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH or
                UNKNOWN_LEADER_EPOCH.
        """
        partitions = self._by_name.get(topic)
        partition = None if partitions is None else partitions.get(index)
        if partition is None:
            if (topic, index) in self._offline:
                raise KafkaError(
                    ErrorCode.KAFKA_STORAGE_ERROR, f"the log directory of {topic}-{index} is offline"
                )
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return self._checked(partition, current_leader_epoch)

    def leader_by_id(self, topic_id: bytes, index: int, current_leader_epoch: int = -1) -> Partition:
        """As `leader`, by topic id; UNKNOWN_TOPIC_ID where no topic has it."""
        partitions = self._by_id.get(topic_id)
        if partitions is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        partition = partitions.get(index)
        if partition is None:
            if any(topic == name for name, _ in self._offline for topic in self._names_of(topic_id)):
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return self._checked(partition, current_leader_epoch)

    def _names_of(self, topic_id: bytes) -> set[str]:
        return {partition.topic for partition in self._by_id.get(topic_id, {}).values()}

    def _checked(self, partition: Partition, current_leader_epoch: int) -> Partition:
        if current_leader_epoch not in (-1, partition.leader_epoch):
            partition.check_epoch(current_leader_epoch)
        if partition.leader_id != self._node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if partition.log.is_offline:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"the log directory of {partition.log.directory} is offline"
            )
        return partition

    # ----- following the image

    def apply_topic(self, topic: Topic, overrides: Mapping[str, str]) -> None:
        """Creates or updates the replicas of `topic` that are placed on this broker."""
        by_name = self._by_name.setdefault(topic.name, {})
        by_id = self._by_id.setdefault(topic.id, by_name)
        config: LogConfig | None = None
        for state in topic.partitions:
            if self._node_id not in state.replicas:
                continue
            partition = by_id.get(state.index)
            if partition is None:
                if config is None:
                    config = self._log_config(overrides)
                partition = self._create(topic, state.index, config)
                if partition is None:
                    continue
                by_id[state.index] = partition
            before = (partition.leader_id, partition.leader_epoch)
            partition.apply(state)
            if before != (partition.leader_id, partition.leader_epoch):
                self._leadership_changed(partition)

    def _create(self, topic: Topic, index: int, config: LogConfig) -> Partition | None:
        try:
            log = self._log_directories.create(topic.name, index, topic.id, config)
        except StorageError as error:
            self._offline.add((topic.name, index))
            logger.error("partition is offline topic=%s partition=%d reason=%s", topic.name, index, error)  # noqa: TRY400
            return None
        return Partition(
            topic.name,
            index,
            log,
            node_id=self._node_id,
            group_commit=self._group_commit,
            durability=self._durability,
        )

    def remove_topic(self, name: str, topic_id: bytes) -> None:
        """Forgets a deleted topic; its logs are removed in the background."""
        self._by_name.pop(name, None)
        for partition in (self._by_id.pop(topic_id, None) or {}).values():
            partition.leader_id = -1
            self._leadership_changed(partition)
            partition.wake_parked()
            try:
                self._log_directories.delete(name, partition.index)
            except StorageError as error:
                logger.error(
                    "log is not deleted topic=%s partition=%d reason=%s", name, partition.index, error
                )  # noqa: TRY400
        self._offline = {key for key in self._offline if key[0] != name}

    def configure_topic(self, name: str, overrides: Mapping[str, str]) -> None:
        """Takes over the settings of one topic, at once."""
        partitions = self._by_name.get(name)
        if partitions:
            config = self._log_config(overrides)
            for partition in partitions.values():
                partition.configure(config)

    def _leadership_changed(self, partition: Partition) -> None:
        for listener in self._leadership_listeners:
            listener(partition)
