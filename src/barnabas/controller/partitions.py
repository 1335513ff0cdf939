"""Giving topics more partitions, and noting where a broker keeps them. Pure.

Refusals as Kafka's `ReplicationControlManager.createPartitions`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.placement import place
from barnabas.controller.topics import PARTITIONS_MAX, new_partition, validate_assignment
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import UNASSIGNED_DIRECTORY
from barnabas.metadata.snapshot import partition_record
from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from barnabas.metadata.image import MetadataImage

__all__ = ["MorePartitions", "assign_directories", "create_partitions"]


class MorePartitions(NamedTuple):
    """A topic that is to have `total` partitions; `assignments` are the replicas of the new ones, by hand."""

    name: str
    total: int
    assignments: Sequence[Sequence[int]] | None = None


def create_partitions(
    image: MetadataImage, topics: Sequence[MorePartitions], *, chance: random.Random
) -> tuple[list[Any], dict[str, KafkaError | None]]:
    """The records that add the partitions, and what is wrong with each topic, if anything."""
    count_by_name = Counter(topic.name for topic in topics)
    records: list[Any] = []
    results: dict[str, KafkaError | None] = {}
    for topic in topics:
        if topic.name in results:
            continue
        try:
            if count_by_name[topic.name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            added = _add(image, topic, chance)
            if len(records) + len(added) > PARTITIONS_MAX:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request."
                )
            records += added
            results[topic.name] = None
        except KafkaError as error:
            results[topic.name] = error
    return records, results


def _add(image: MetadataImage, topic: MorePartitions, chance: random.Random) -> list[Any]:
    existing = image.topics.get(topic.name)
    if existing is None:
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
        )
    count = len(existing.partitions)
    if topic.total == count:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {count} partition(s).")
    if topic.total < count:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {count} partition(s); {topic.total} would not be an increase.",
        )
    additional = topic.total - count
    if additional > PARTITIONS_MAX:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
    factor = len(existing.partitions[0].replicas)
    placed: Sequence[Sequence[int]]
    if topic.assignments is not None:
        if len(topic.assignments) != additional:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {additional} additional partition(s), but only {len(topic.assignments)} "
                "assignment(s) were specified.",
            )
        for index, replicas in enumerate(topic.assignments, count):
            validate_assignment(image, index, replicas, factor)
        placed = topic.assignments
    else:
        placed = place(
            image.brokers.values(), partition_count=additional, replication_factor=factor, chance=chance
        )
    return [
        partition_record(existing.id, new_partition(image, index, replicas))
        for index, replicas in enumerate(placed, count)
    ]


def assign_directories(
    image: MetadataImage, broker_id: int, placed: Mapping[tuple[bytes, int], bytes]
) -> list[PartitionChangeRecord]:
    """The records that say in which log directories a broker keeps its replicas; what is known or gone is left out.

    Args:
        image: What is known.
        broker_id: The broker.
        placed: The directory's id by topic id and partition.
    """
    records = []
    for (topic_id, index), directory_id in placed.items():
        topic = image.topic_by_id(topic_id)
        if topic is None or index >= len(topic.partitions):
            continue
        partition = topic.partitions[index]
        if broker_id not in partition.replicas or partition.directory_of(broker_id) == directory_id:
            continue
        # Replicas from before there were directory ids have none at all.
        before = partition.directories or (UNASSIGNED_DIRECTORY,) * len(partition.replicas)
        directories = [
            directory_id if replica == broker_id else known
            for replica, known in zip(partition.replicas, before, strict=True)
        ]
        records.append(PartitionChangeRecord(partition_id=index, topic_id=topic_id, directories=directories))
    return records
