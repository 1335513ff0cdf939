"""Moving replicas between brokers (KIP-455). Pure; as Kafka's `ReplicationControlManager.alterPartitionReassignments`.

A partition first gets the new replicas beside the old ones, and loses the old ones when the new ones are in sync. What only
takes away or reorders replicas is done at once, which is all that a single broker can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.topics import validate_assignment
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import UNASSIGNED_DIRECTORY
from barnabas.metadata.image import NO_LEADER
from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.metadata.image import MetadataImage, Partition

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
    reassignments: Sequence[Reassignment],
    *,
    allow_replication_factor_change: bool,
    allows_unclean_election: Callable[[str], bool],
) -> tuple[list[Any], list[KafkaError | None]]:
    """The records that begin, finish or call off these moves, and what is wrong with each, if anything.

    Args:
        image: What is known.
        reassignments: The moves.
        allow_replication_factor_change: Whether a partition may get more or fewer replicas than it has.
        allows_unclean_election: Whether a topic may get a leader that was not in sync.
    """
    records: list[Any] = []
    results: list[KafkaError | None] = []
    for reassignment in reassignments:
        try:
            record = _alter(image, reassignment, allow_replication_factor_change, allows_unclean_election)
        except KafkaError as error:
            results.append(error)
        else:
            results.append(None)
            if record is not None:
                records.append(record)
    return records, results


def _alter(
    image: MetadataImage,
    reassignment: Reassignment,
    allow_replication_factor_change: bool,
    allows_unclean_election: Callable[[str], bool],
) -> PartitionChangeRecord | None:
    name, index, target = reassignment
    topic = image.topics.get(name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {name}.")
    partition = image.partition(name, index)
    if partition is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {name}:{index}.")
    if target is None:
        return _call_off(image, topic.id, name, partition, allows_unclean=allows_unclean_election(name))
    validate_assignment(image, index, target, None)
    if not allow_replication_factor_change:
        count = len(partition.replicas) - len(partition.adding_replicas if is_reassigned(partition) else ())
        if len(target) != count:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"The replication factor is changed from {count} to {len(target)}",
            )
    removing = [replica for replica in partition.replicas if replica not in target]
    adding = [replica for replica in target if replica not in partition.replicas]
    isr = tuple(replica for replica in partition.isr if replica in target)
    if isr and all(replica in isr for replica in target):
        return _change(image, topic.id, partition, list(target), isr, adding=(), removing=())
    return _change(
        image,
        topic.id,
        partition,
        [*target, *removing],
        partition.isr,
        adding=tuple(sorted(adding)),
        removing=tuple(sorted(removing)),
    )


def _call_off(
    image: MetadataImage, topic_id: bytes, name: str, partition: Partition, *, allows_unclean: bool
) -> PartitionChangeRecord | None:
    if not is_reassigned(partition):
        raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
    replicas = [replica for replica in partition.replicas if replica not in partition.adding_replicas]
    isr = tuple(replica for replica in partition.isr if replica in replicas)
    if not replicas:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Invalid replica assignment: addingReplicas contains all replicas.",
        )
    if not isr:
        if not allows_unclean:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Unable to revert partition assignment for {name}:{partition.index} because it would require an "
                "unclean leader election.",
            )
        isr = (replicas[0],)
    return _change(image, topic_id, partition, replicas, isr, adding=(), removing=())


def _change(
    image: MetadataImage,
    topic_id: bytes,
    partition: Partition,
    replicas: list[int],
    isr: tuple[int, ...],
    *,
    adding: tuple[int, ...],
    removing: tuple[int, ...],
) -> PartitionChangeRecord | None:
    """The record that turns one state into another, with the leader that it leaves; None where nothing changes."""
    record = PartitionChangeRecord(partition_id=partition.index, topic_id=topic_id)
    is_changed = False
    if tuple(replicas) != partition.replicas:
        record.replicas = replicas
        record.directories = [partition.directory_of(replica) or UNASSIGNED_DIRECTORY for replica in replicas]
        is_changed = True
    if isr != partition.isr:
        record.isr = list(isr)
        is_changed = True
    if adding != partition.adding_replicas:
        record.adding_replicas = list(adding)
        is_changed = True
    if removing != partition.removing_replicas:
        record.removing_replicas = list(removing)
        is_changed = True
    if partition.leader not in isr:
        candidates = [replica for replica in replicas if replica in isr and image.is_active(replica)]
        leader = candidates[0] if candidates else NO_LEADER
        if leader != partition.leader:
            record.leader = leader
            is_changed = True
    return record if is_changed else None
