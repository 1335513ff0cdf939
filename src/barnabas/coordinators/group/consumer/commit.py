"""Offsets of consumer groups: who may commit and fetch, in which epoch.

A member may commit in its present epoch. A commit that was on its way when the epoch went on is good, too, for each
partition that the member had in that epoch already: nobody else can have read it since.

Source: KIP-848, KIP-1251; Kafka's `ConsumerGroup.validateOffsetCommit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.group.consumer.group import ConsumerGroup
    from barnabas.coordinators.group.consumer.member import ConsumerMember

__all__ = ["check_consumer_commit", "check_consumer_fetch"]

_EPOCHS_FROM = 9


def check_consumer_commit(
    group: ConsumerGroup, member_id: str, instance_id: str | None, epoch: int, version: int | None
) -> Callable[[bytes, int], None] | None:
    """Whether the commit may go ahead; gives what is to be asked for each partition (topic id, index), if anything.

    `version` is that of OffsetCommit, None for a commit within a transaction.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID, UNSUPPORTED_VERSION, STALE_MEMBER_EPOCH, or ILLEGAL_GENERATION for a member of the classic
            protocol; what is given raises these, too.
    """
    if epoch < 0 and not group.members:
        return None
    if version is None and epoch == -1 and not member_id and instance_id is None:
        # TxnOffsetCommit need not say who it is: then the producer's epoch alone counts.
        return None
    member = _member(group, member_id)
    if version is not None and not member.uses_classic_protocol and version < _EPOCHS_FROM:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_VERSION,
            "OffsetCommit version 9 or above must be used by members using the consumer group protocol",
        )
    if epoch == member.member_epoch:
        return None
    if epoch > member.member_epoch:
        raise _stale(member)

    def check_partition(topic_id: bytes, partition: int) -> None:
        assigned = member.assigned.get(topic_id, {}).get(partition)
        if assigned is None:
            assigned = member.revoking.get(topic_id, {}).get(partition)
        if assigned is None or epoch < assigned:
            raise _stale(member)

    return check_partition


def check_consumer_fetch(group: ConsumerGroup, member_id: str | None, epoch: int) -> None:
    """Whether offsets may be fetched; anybody may who does not claim to be a member.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION.
    """
    if member_id is None and epoch < 0:
        return
    member = _member(group, member_id or "")
    if epoch != member.member_epoch:
        raise _stale(member)


def _member(group: ConsumerGroup, member_id: str) -> ConsumerMember:
    member = group.members.get(member_id)
    if member is None:
        raise KafkaError(
            ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group.group_id}."
        )
    return member


def _stale(member: ConsumerMember) -> KafkaError:
    if member.uses_classic_protocol:
        return KafkaError(ErrorCode.ILLEGAL_GENERATION)
    return KafkaError(ErrorCode.STALE_MEMBER_EPOCH)
