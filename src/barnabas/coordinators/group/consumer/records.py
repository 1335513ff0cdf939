"""The records of consumer groups in `__consumer_offsets`, in Apache Kafka's own format.

    key                                                       value (version 0)
    0x0003 ConsumerGroupMetadataKey(group)                    group epoch, hash of the subscribed topics
    0x0004 ConsumerGroupPartitionMetadataKey(group)           (read and removed: Kafka before 4.1)
    0x0005 ConsumerGroupMemberMetadataKey(group, member)      what the member said of itself
    0x0006 ConsumerGroupTargetAssignmentMetadataKey(group)    epoch and time of the target assignment
    0x0007 ConsumerGroupTargetAssignmentMemberKey(g., m.)     what the member shall have
    0x0008 ConsumerGroupCurrentMemberAssignmentKey(g., m.)    epoch, state, what it has and what it gives up
    0x0010 ConsumerGroupRegularExpressionKey(group, regex)    the topics that the pattern matched

Source: `GroupCoordinatorRecordHelpers` of Kafka 4.3.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from barnabas.wire.messages.group.consumer_group_current_member_assignment_key import (
    ConsumerGroupCurrentMemberAssignmentKey as CurrentAssignmentKey,
)
from barnabas.wire.messages.group.consumer_group_current_member_assignment_value import (
    ConsumerGroupCurrentMemberAssignmentValue as CurrentAssignmentValue,
)
from barnabas.wire.messages.group.consumer_group_member_metadata_key import (
    ConsumerGroupMemberMetadataKey as MemberMetadataKey,
)
from barnabas.wire.messages.group.consumer_group_member_metadata_value import (
    ConsumerGroupMemberMetadataValue as MemberMetadataValue,
)
from barnabas.wire.messages.group.consumer_group_metadata_key import (
    ConsumerGroupMetadataKey as EpochKey,
)
from barnabas.wire.messages.group.consumer_group_metadata_value import (
    ConsumerGroupMetadataValue as EpochValue,
)
from barnabas.wire.messages.group.consumer_group_partition_metadata_key import (
    ConsumerGroupPartitionMetadataKey as PartitionMetadataKey,
)
from barnabas.wire.messages.group.consumer_group_regular_expression_key import (
    ConsumerGroupRegularExpressionKey as ExpressionKey,
)
from barnabas.wire.messages.group.consumer_group_regular_expression_value import (
    ConsumerGroupRegularExpressionValue as ExpressionValue,
)
from barnabas.wire.messages.group.consumer_group_target_assignment_member_key import (
    ConsumerGroupTargetAssignmentMemberKey as TargetMemberKey,
)
from barnabas.wire.messages.group.consumer_group_target_assignment_member_value import (
    ConsumerGroupTargetAssignmentMemberValue as TargetMemberValue,
)
from barnabas.wire.messages.group.consumer_group_target_assignment_metadata_key import (
    ConsumerGroupTargetAssignmentMetadataKey as TargetEpochKey,
)
from barnabas.wire.messages.group.consumer_group_target_assignment_metadata_value import (
    ConsumerGroupTargetAssignmentMetadataValue as TargetEpochValue,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.coordinators.group.consumer.group import ConsumerGroup, ResolvedExpression
    from barnabas.coordinators.group.consumer.member import ConsumerMember
    from barnabas.coordinators.shard import CoordinatorRecord
    from barnabas.wire.message import Message

__all__ = [
    "CONSUMER_GROUP_KEYS",
    "CurrentAssignmentKey",
    "CurrentAssignmentValue",
    "EpochKey",
    "EpochValue",
    "ExpressionKey",
    "ExpressionValue",
    "MemberMetadataKey",
    "MemberMetadataValue",
    "PartitionMetadataKey",
    "TargetEpochKey",
    "TargetEpochValue",
    "TargetMemberKey",
    "TargetMemberValue",
    "current_assignment_record",
    "current_assignment_tombstone",
    "epoch_record",
    "expression_record",
    "expression_tombstone",
    "group_records",
    "group_tombstones",
    "member_record",
    "member_tombstones",
    "partition_metadata_tombstone",
    "target_epoch_record",
    "target_record",
]

CONSUMER_GROUP_KEYS: dict[int, type[Message]] = {
    key.API_KEY: key
    for key in (
        EpochKey,
        PartitionMetadataKey,
        MemberMetadataKey,
        TargetEpochKey,
        TargetMemberKey,
        CurrentAssignmentKey,
        ExpressionKey,
    )
}
"""Record type -> the message of its key."""

_INT16 = struct.Struct(">h")
_VALUE_PREFIX = _INT16.pack(0)


def _key(message: Message) -> bytes:
    return _INT16.pack(message.API_KEY) + message.encode(0)


def _record(key: Message, value: Message) -> CoordinatorRecord:
    return _key(key), _VALUE_PREFIX + value.encode(0)


# ----- the group


def epoch_record(group_id: str, epoch: int, metadata_hash: int) -> CoordinatorRecord:
    """The group goes to a new epoch."""
    return _record(EpochKey(group_id=group_id), EpochValue(epoch=epoch, metadata_hash=metadata_hash))


def target_epoch_record(group_id: str, epoch: int, timestamp_ms: int) -> CoordinatorRecord:
    """The target assignment is that of this epoch."""
    return _record(
        TargetEpochKey(group_id=group_id),
        TargetEpochValue(assignment_epoch=epoch, assignment_timestamp=timestamp_ms),
    )


def partition_metadata_tombstone(group_id: str) -> CoordinatorRecord:
    """Removes what the hash of the subscribed topics has replaced."""
    return _key(PartitionMetadataKey(group_id=group_id)), None


def group_tombstones(
    group: ConsumerGroup, member_ids: Iterable[str] | None = None
) -> list[CoordinatorRecord]:
    """Removes a group with everything in it. `member_ids`: its members by the ids that they have after records of the same step."""
    group_id = group.group_id
    ids = list(group.members if member_ids is None else member_ids)
    # A target without a member is what a crash may leave behind.
    targets = dict.fromkeys([*ids, *(group.targets if member_ids is None else ())])
    return [
        *[current_assignment_tombstone(group_id, member_id) for member_id in ids],
        *[_target_tombstone(group_id, member_id) for member_id in targets],
        (_key(TargetEpochKey(group_id=group_id)), None),
        *[_metadata_tombstone(group_id, member_id) for member_id in ids],
        *[expression_tombstone(group_id, regex) for regex in group.expressions],
        partition_metadata_tombstone(group_id),
        (_key(EpochKey(group_id=group_id)), None),
    ]


def group_records(group: ConsumerGroup) -> list[CoordinatorRecord]:
    """A whole group as it stands."""
    group_id = group.group_id
    members = group.members.values()
    return [
        *[member_record(group_id, member) for member in members],
        epoch_record(group_id, group.group_epoch, group.metadata_hash),
        *[target_record(group_id, member_id, group.target_of(member_id)) for member_id in group.members],
        target_epoch_record(group_id, group.assignment_epoch, group.assignment_timestamp_ms),
        *[current_assignment_record(group_id, member) for member in members],
    ]


# ----- members


def member_record(group_id: str, member: ConsumerMember) -> CoordinatorRecord:
    """What a member said of itself."""
    classic = member.classic
    return _record(
        MemberMetadataKey(group_id=group_id, member_id=member.member_id),
        MemberMetadataValue(
            instance_id=member.instance_id,
            rack_id=member.rack_id,
            client_id=member.client_id,
            client_host=member.client_host,
            subscribed_topic_names=sorted(member.topic_names),
            subscribed_topic_regex=member.topic_regex,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            server_assignor=member.server_assignor,
            classic_member_metadata=None
            if classic is None
            else MemberMetadataValue.ClassicMemberMetadata(
                session_timeout_ms=classic.session_timeout_ms,
                supported_protocols=[
                    MemberMetadataValue.ClassicProtocol(name=name, metadata=metadata)
                    for name, metadata in classic.protocols
                ],
            ),
        ),
    )


def member_tombstones(group_id: str, member_id: str) -> list[CoordinatorRecord]:
    """Removes a member."""
    return [
        current_assignment_tombstone(group_id, member_id),
        _target_tombstone(group_id, member_id),
        _metadata_tombstone(group_id, member_id),
    ]


def _metadata_tombstone(group_id: str, member_id: str) -> CoordinatorRecord:
    return _key(MemberMetadataKey(group_id=group_id, member_id=member_id)), None


def target_record(
    group_id: str, member_id: str, assignment: Mapping[bytes, frozenset[int]]
) -> CoordinatorRecord:
    """What a member shall have."""
    return _record(
        TargetMemberKey(group_id=group_id, member_id=member_id),
        TargetMemberValue(
            topic_partitions=[
                TargetMemberValue.TopicPartition(topic_id=topic_id, partitions=sorted(partitions))
                for topic_id, partitions in assignment.items()
            ]
        ),
    )


def _target_tombstone(group_id: str, member_id: str) -> CoordinatorRecord:
    return _key(TargetMemberKey(group_id=group_id, member_id=member_id)), None


def current_assignment_record(group_id: str, member: ConsumerMember) -> CoordinatorRecord:
    """What a member has."""
    return _record(
        CurrentAssignmentKey(group_id=group_id, member_id=member.member_id),
        CurrentAssignmentValue(
            member_epoch=member.member_epoch,
            previous_member_epoch=member.previous_member_epoch,
            state=member.state,
            assigned_partitions=_topic_partitions(member.assigned),
            partitions_pending_revocation=_topic_partitions(member.revoking),
        ),
    )


def current_assignment_tombstone(group_id: str, member_id: str) -> CoordinatorRecord:
    """Takes everything from a member that is about to go."""
    return _key(CurrentAssignmentKey(group_id=group_id, member_id=member_id)), None


def _topic_partitions(
    owned: Mapping[bytes, Mapping[int, int]],
) -> list[CurrentAssignmentValue.TopicPartitions]:
    return [
        CurrentAssignmentValue.TopicPartitions(
            topic_id=topic_id, partitions=list(partitions), assignment_epochs=list(partitions.values())
        )
        for topic_id, partitions in owned.items()
    ]


# ----- patterns


def expression_record(group_id: str, regex: str, resolved: ResolvedExpression) -> CoordinatorRecord:
    """The topics that a pattern matched."""
    return _record(
        ExpressionKey(group_id=group_id, regular_expression=regex),
        ExpressionValue(
            topics=sorted(resolved.topics), version=resolved.version, timestamp=resolved.timestamp_ms
        ),
    )


def expression_tombstone(group_id: str, regex: str) -> CoordinatorRecord:
    """Nobody subscribes to the pattern any more."""
    return _key(ExpressionKey(group_id=group_id, regular_expression=regex)), None
