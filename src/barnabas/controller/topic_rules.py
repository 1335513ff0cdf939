"""What the settings of a topic say of elections and in-sync replicas. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.config.topic import TOPIC_KEYS
from barnabas.controller.partition_changes import Change, Election, change_partition
from barnabas.metadata.features import ELR_FEATURE, ELR_VERSION
from barnabas.metadata.identifiers import UNASSIGNED_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.config.broker import BrokerConfig
    from barnabas.metadata.image import MetadataImage, Partition, Topic
    from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord

__all__ = ["TopicRules"]

_MIN_INSYNC_REPLICAS = "min.insync.replicas"
_UNCLEAN_ELECTION = "unclean.leader.election.enable"


class TopicRules:
    """The rules of all topics of an image.

    Args:
        image: What is known.
        config: The defaults of topics.
    """

    __slots__ = ("_config", "_image", "has_elr")

    def __init__(self, image: MetadataImage, config: BrokerConfig) -> None:
        self._image = image
        self._config = config
        self.has_elr = image.features.get(ELR_FEATURE, 0) >= ELR_VERSION

    def min_insync_replicas(self, topic: Topic) -> int:
        """`min.insync.replicas`, at most the topic's replication factor."""
        text = self._image.topic_config(topic.name).get(_MIN_INSYNC_REPLICAS)
        value: int = (
            self._config[_MIN_INSYNC_REPLICAS]
            if text is None
            else TOPIC_KEYS[_MIN_INSYNC_REPLICAS].parse(text)
        )
        return min(value, len(topic.partitions[0].replicas)) if topic.partitions else value

    def allows_unclean_election(self, topic: str) -> bool:
        """Whether a replica that is not in sync may lead when no other can."""
        text = self._image.topic_config(topic).get(_UNCLEAN_ELECTION)
        value = self._config[_UNCLEAN_ELECTION] if text is None else TOPIC_KEYS[_UNCLEAN_ELECTION].parse(text)
        return bool(value)

    def election(self, topic: str) -> Election:
        """How a leader is looked for when the one that there is goes."""
        return Election.UNCLEAN if self.allows_unclean_election(topic) else Election.ONLINE

    def may_lead(
        self, partition: Partition, is_active: Callable[[int], bool] | None = None
    ) -> Callable[[int], bool]:
        """Whether a broker can lead this partition: it is active, and the replica's log directory works there."""
        is_active = is_active or self._image.is_active

        def check(broker_id: int) -> bool:
            if not is_active(broker_id):
                return False
            directory = partition.directory_of(broker_id)
            broker = self._image.brokers.get(broker_id)
            # Ids below 100 are reserved: unassigned, lost, from before there were ids.
            return (
                directory is None
                or broker is None
                or not broker.log_dirs
                or int.from_bytes(directory, "big") < 100
                or directory in broker.log_dirs
            )

        return check

    def default_directory(self, broker_id: int) -> bytes:
        """The log directory of a new replica: the broker's only one, else it chooses."""
        broker = self._image.brokers.get(broker_id)
        return (
            broker.log_dirs[0] if broker is not None and len(broker.log_dirs) == 1 else UNASSIGNED_DIRECTORY
        )

    def change(
        self,
        topic: Topic,
        partition: Partition,
        change: Change,
        *,
        is_active: Callable[[int], bool] | None = None,
        has_elr: bool | None = None,
    ) -> PartitionChangeRecord | None:
        """`change_partition` by the rules of this topic."""
        return change_partition(
            topic.id,
            partition,
            change,
            may_lead=self.may_lead(partition, is_active),
            min_insync_replicas=self.min_insync_replicas(topic),
            has_elr=self.has_elr if has_elr is None else has_elr,
            default_directory=self.default_directory,
        )
