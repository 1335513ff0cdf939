"""A leader proposes who is in sync with it, and the controller decides (AlterPartition). Pure.

Whatever the leader did not know when it proposed makes the proposal void: another leader epoch, a change of the partition, a
broker that is fenced, stops or has started anew since (KIP-903). Nobody is taken in sync who may lack records.

Source: `ReplicationControlManager.alterPartition` and `validateAlterPartitionData` of Apache Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.liveness import check_broker_epoch
from barnabas.controller.partition_changes import Change
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.deltas import changed_partition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.controller.topic_rules import TopicRules
    from barnabas.metadata.image import MetadataImage, Partition

__all__ = ["ANY_EPOCH", "Outcome", "Proposal", "alter_in_sync_replicas"]

ANY_EPOCH = -1
"""As a broker's epoch: whichever it has."""


class Proposal(NamedTuple):
    """What a leader proposes for one partition.

    Attributes:
        topic_id: The topic.
        partition_index: The partition.
        leader_epoch: The epoch in which the leader leads.
        partition_epoch: The state of the partition that it knows.
        isr: In-sync replicas: id and epoch of each broker, the epoch in which it caught up.
        is_recovering: The leader is still repairing what an unclean election left behind.
    """

    topic_id: bytes
    partition_index: int
    leader_epoch: int
    partition_epoch: int
    isr: Sequence[tuple[int, int]]
    is_recovering: bool = False


class Outcome(NamedTuple):
    """What became of a proposal: the partition's state, or an error."""

    partition: Partition | None
    error: ErrorCode = ErrorCode.NONE


def alter_in_sync_replicas(
    image: MetadataImage,
    rules: TopicRules,
    broker_id: int,
    broker_epoch: int,
    proposals: Sequence[Proposal],
) -> tuple[list[Any], list[Outcome]]:
    """The records of the proposals that hold, and what became of each.

    Raises:
        KafkaError: STALE_BROKER_EPOCH when the broker has registered anew since.
    """
    check_broker_epoch(image, broker_id, broker_epoch)
    records: list[Any] = []
    outcomes: list[Outcome] = []
    changed: dict[tuple[bytes, int], Partition] = {}
    for proposal in proposals:
        topic = image.topic_by_id(proposal.topic_id)
        if topic is None:
            outcomes.append(Outcome(None, ErrorCode.UNKNOWN_TOPIC_ID))
            continue
        if not 0 <= proposal.partition_index < len(topic.partitions):
            outcomes.append(Outcome(None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            continue
        key = (topic.id, proposal.partition_index)
        partition = changed.get(key) or topic.partitions[proposal.partition_index]
        try:
            _check(image, broker_id, partition, proposal)
        except KafkaError as error:
            outcomes.append(Outcome(None, error.code))
            continue
        record = rules.change(
            topic,
            partition,
            Change(
                isr=[replica for replica, _ in proposal.isr],
                is_recovered=not proposal.is_recovering,
                election=rules.election(topic.name),
            ),
        )
        if record is not None:
            records.append(record)
            partition = changed[key] = changed_partition(partition, record)
        if partition.leader != broker_id:
            # The end of a reassignment took the leader's replica away.
            outcomes.append(Outcome(None, ErrorCode.NEW_LEADER_ELECTED))
        else:
            outcomes.append(Outcome(partition))
    return records, outcomes


def _check(image: MetadataImage, broker_id: int, partition: Partition, proposal: Proposal) -> None:
    if proposal.leader_epoch > partition.leader_epoch or proposal.partition_epoch > partition.partition_epoch:
        # The leader knows more than this node, which therefore no longer leads the metadata log.
        raise KafkaError(ErrorCode.NOT_CONTROLLER)
    if proposal.leader_epoch < partition.leader_epoch:
        raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
    if broker_id != partition.leader:
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if proposal.partition_epoch < partition.partition_epoch:
        raise KafkaError(ErrorCode.INVALID_UPDATE_VERSION)
    isr = [replica for replica, _ in proposal.isr]
    if not isr or len(set(isr)) != len(isr) or not set(isr) <= set(partition.replicas):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if partition.leader not in isr:
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if proposal.is_recovering and (len(isr) > 1 or not partition.recovering):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    for replica, epoch in proposal.isr:
        broker = image.brokers.get(replica)
        if broker is None or not broker.is_active or epoch not in (ANY_EPOCH, broker.epoch):
            raise KafkaError(ErrorCode.INELIGIBLE_REPLICA)
