"""Electing leaders on request (KIP-183, KIP-460). Pure; refusals as Kafka's `ReplicationControlManager.electLeaders`.

A preferred election gives a partition back to its first replica; an unclean one gives a partition that has no leader to
whoever lives, even if that loses records.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.image import NO_LEADER
from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.metadata.image import MetadataImage, Partition

__all__ = ["Election", "ElectionType", "elect_leaders"]


class ElectionType(IntEnum):
    """By the numbers of the protocol."""

    PREFERRED = 0
    UNCLEAN = 1


class Election(NamedTuple):
    """What became of one partition; `error` is None where it has a new leader."""

    topic: str
    partition_index: int
    error: KafkaError | None


def elect_leaders(
    image: MetadataImage, election_type: int, wanted: Sequence[tuple[str, Sequence[int]]] | None
) -> tuple[list[Any], list[tuple[str, list[Election]]]]:
    """The records that elect these leaders, and what became of each partition, by topic in the order of the request.

    With None all partitions are meant, and those that need no election are left out of the results.

    Raises:
        KafkaError: INVALID_REQUEST for a kind of election that nobody knows.
    """
    try:
        kind = ElectionType(election_type)
    except ValueError:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown election type {election_type}") from None
    everything = wanted is None
    if wanted is None:
        wanted = [(topic.name, range(len(topic.partitions))) for topic in image.topics.values()]
    records: list[Any] = []
    results = []
    elected: set[tuple[str, int]] = set()
    for name, indexes in wanted:
        elections = []
        for index in indexes:
            try:
                record = _elect(image, kind, name, index, is_elected=(name, index) in elected)
            except KafkaError as error:
                if not (everything and error.code is ErrorCode.ELECTION_NOT_NEEDED):
                    elections.append(Election(name, index, error))
            else:
                records.append(record)
                elected.add((name, index))
                elections.append(Election(name, index, None))
        results.append((name, elections))
    return records, results


def _elect(image: MetadataImage, kind: ElectionType, name: str, index: int, *, is_elected: bool) -> Any:
    topic = image.topics.get(name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    partition = image.partition(name, index)
    if partition is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}")
    if is_elected or _is_content(kind, partition):
        raise KafkaError(ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
    in_sync = [broker_id for broker_id in partition.replicas if broker_id in partition.isr]
    if kind is ElectionType.PREFERRED:
        preferred = partition.replicas[0]
        if preferred not in partition.isr or not image.is_active(preferred):
            raise KafkaError(
                ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available."
            )
        return PartitionChangeRecord(partition_id=index, topic_id=topic.id, leader=preferred)
    for broker_id in (*in_sync, *partition.elr):
        if image.is_active(broker_id):
            isr = None if broker_id in partition.isr else [broker_id]
            return PartitionChangeRecord(partition_id=index, topic_id=topic.id, leader=broker_id, isr=isr)
    for broker_id in partition.replicas:
        if image.is_active(broker_id):
            return PartitionChangeRecord(
                partition_id=index,
                topic_id=topic.id,
                leader=broker_id,
                isr=[broker_id],
                eligible_leader_replicas=[],
                last_known_elr=[],
            )
    raise KafkaError(
        ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, "Eligible topic partition leaders are not available."
    )


def _is_content(kind: ElectionType, partition: Partition) -> bool:
    if kind is ElectionType.PREFERRED:
        return bool(partition.replicas) and partition.leader == partition.replicas[0]
    return partition.leader != NO_LEADER
