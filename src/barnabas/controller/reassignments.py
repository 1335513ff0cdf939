"""Moving replicas between brokers (KIP-455). Pure; as Kafka's `ReplicationControlManager.alterPartitionReassignments`.

A partition first gets the new replicas beside the old ones, and loses the old ones when the new ones are in sync
(`partition_changes`). What only takes away or reorders replicas is done at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.partition_changes import Change
from barnabas.controller.topics import validate_assignment
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.controller.topic_rules import TopicRules
    from barnabas.metadata.image import MetadataImage, Partition, Topic
    from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord

__all__ = ["Reassignment", "alter_partition_reassignments", "is_reassigned"]


class Reassignment(NamedTuple):
    """Where a partition is to be; with None a move that is under way is called off."""

    topic: str
    partition_index: int
    replicas: Sequence[int] | None


def is_reassigned(partition: Partition) -> bool:
    """Whether a move is under way."""
    return bool(partition.adding_replicas or partition.removing_replicas)


def alter_partition_reassignments(
    image: MetadataImage,
    rules: TopicRules,
    reassignments: Sequence[Reassignment],
    *,
    allow_replication_factor_change: bool,
) -> tuple[list[Any], list[KafkaError | None]]:
    """The records that begin, finish or call off these moves, and what is wrong with each, if anything.

    Args:
        image: What is known.
        rules: The topics' rules.
        reassignments: The moves.
        allow_replication_factor_change: Whether a partition may get more or fewer replicas than it has.
    """
    records: list[Any] = []
    results: list[KafkaError | None] = []
    for reassignment in reassignments:
        try:
            record = _alter(image, rules, reassignment, allow_replication_factor_change)
        except KafkaError as error:
            results.append(error)
        else:
            results.append(None)
            if record is not None:
                records.append(record)
    return records, results


def _alter(
    image: MetadataImage,
    rules: TopicRules,
    reassignment: Reassignment,
    allow_replication_factor_change: bool,
) -> PartitionChangeRecord | None:
    name, index, target = reassignment
    topic = image.topics.get(name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {name}.")
    partition = image.partition(name, index)
    if partition is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {name}:{index}.")
    if target is None:
        return _call_off(rules, topic, partition)
    validate_assignment(image, index, target, None)
    if not allow_replication_factor_change:
        count = len(partition.replicas) - len(partition.adding_replicas if is_reassigned(partition) else ())
        if len(target) != count:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"The replication factor is changed from {count} to {len(target)}",
            )
    removing = sorted(replica for replica in partition.replicas if replica not in target)
    # A new target replaces that of a move under way; what was on its way and is still wanted goes on.
    before = [replica for replica in partition.replicas if replica not in partition.adding_replicas]
    adding = sorted(replica for replica in target if replica not in before)
    return rules.change(
        topic,
        partition,
        Change(replicas=[*target, *removing], adding=adding, removing=removing),
    )


def _call_off(rules: TopicRules, topic: Topic, partition: Partition) -> PartitionChangeRecord | None:
    if not is_reassigned(partition):
        raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
    replicas = [replica for replica in partition.replicas if replica not in partition.adding_replicas]
    isr = [replica for replica in partition.isr if replica in replicas]
    if not replicas:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Invalid replica assignment: addingReplicas contains all replicas.",
        )
    if not isr:
        if not rules.allows_unclean_election(topic.name):
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Unable to revert partition assignment for {topic.name}:{partition.index} because it would require an "
                "unclean leader election.",
            )
        isr = replicas[:1]
    return rules.change(
        topic,
        partition,
        Change(isr=isr, replicas=replicas, adding=(), removing=(), election=rules.election(topic.name)),
    )
