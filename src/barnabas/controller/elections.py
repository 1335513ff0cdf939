"""Electing leaders on request (KIP-183, KIP-460), and giving partitions back to their preferred leaders now and then. Pure.

Refusals are those of Kafka's `ReplicationControlManager.electLeaders`.

A preferred election gives a partition back to its first replica; an unclean one gives a partition that has no leader to
whoever lives, even if that loses records.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.partition_changes import Change
from barnabas.controller.partition_changes import Election as Preference
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.image import NO_LEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.controller.topic_rules import TopicRules
    from barnabas.metadata.image import MetadataImage, Partition

__all__ = ["ELECTIONS_MAX", "Election", "ElectionType", "balance", "elect_leaders", "elect_unclean"]

ELECTIONS_MAX = 1000
"""The most leaders that are elected in one go when nobody asked for it."""


class ElectionType(IntEnum):
    """By the numbers of the protocol."""

    PREFERRED = 0
    UNCLEAN = 1


_BUILT = {ElectionType.PREFERRED: Preference.PREFERRED, ElectionType.UNCLEAN: Preference.UNCLEAN}


class Election(NamedTuple):
    """What became of one partition; `error` is None where it has a new leader."""

    topic: str
    partition_index: int
    error: KafkaError | None


def elect_leaders(
    image: MetadataImage,
    rules: TopicRules,
    election_type: int,
    wanted: Sequence[tuple[str, Sequence[int]]] | None,
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
                record = _elect(image, rules, kind, name, index, is_elected=(name, index) in elected)
            except KafkaError as error:
                if not (everything and error.code is ErrorCode.ELECTION_NOT_NEEDED):
                    elections.append(Election(name, index, error))
            else:
                records.append(record)
                elected.add((name, index))
                elections.append(Election(name, index, None))
        results.append((name, elections))
    return records, results


def _elect(
    image: MetadataImage, rules: TopicRules, kind: ElectionType, name: str, index: int, *, is_elected: bool
) -> Any:
    topic = image.topics.get(name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    partition = image.partition(name, index)
    if partition is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}")
    if is_elected or _is_content(kind, partition):
        raise KafkaError(ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
    election = _BUILT[kind]
    # Replicas that another broker of the cluster kept eligible count, whatever the cluster's level says now.
    record = rules.change(
        topic, partition, Change(election=election), has_elr=rules.has_elr or not partition.isr
    )
    if kind is ElectionType.PREFERRED and (record is None or record.leader != partition.replicas[0]):
        raise KafkaError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available.")
    if record is None or record.leader < 0:
        raise KafkaError(
            ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, "Eligible topic partition leaders are not available."
        )
    return record


def balance(image: MetadataImage, rules: TopicRules) -> list[Any]:
    """The records that give partitions back to their preferred leaders, as many as one go may have."""
    return _elect_where(
        image,
        rules,
        lambda partition: (
            partition.leader != partition.replicas[0]
            and partition.replicas[0] in partition.isr
            and image.is_active(partition.replicas[0])
        ),
        lambda _topic: Preference.PREFERRED,
    )


def elect_unclean(image: MetadataImage, rules: TopicRules) -> list[Any]:
    """The records that give a leader to partitions without one, whose topic now allows one that may lack records."""
    return _elect_where(image, rules, lambda partition: partition.leader == NO_LEADER, rules.election)


def _elect_where(
    image: MetadataImage,
    rules: TopicRules,
    is_meant: Callable[[Partition], bool],
    election: Callable[[str], Preference],
) -> list[Any]:
    records: list[Any] = []
    for topic in image.topics.values():
        for partition in topic.partitions:
            if is_meant(partition):
                record = rules.change(topic, partition, Change(election=election(topic.name)))
                if record is not None:
                    records.append(record)
                if len(records) == ELECTIONS_MAX:
                    return records
    return records


def _is_content(kind: ElectionType, partition: Partition) -> bool:
    if kind is ElectionType.PREFERRED:
        return bool(partition.replicas) and partition.leader == partition.replicas[0]
    return partition.leader != NO_LEADER
