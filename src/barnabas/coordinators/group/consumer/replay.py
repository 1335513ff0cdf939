"""Applies the records of consumer groups to groups in memory.

Records of a group come in the order in which the group wrote them, less those that compaction has removed: a tombstone for
something unknown, or a target for somebody who has not been introduced yet, is nothing to complain about.

Source: the `replay` methods of Kafka's `GroupMetadataManager`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from barnabas.coordinators.group.consumer.group import ConsumerGroup, ResolvedExpression
from barnabas.coordinators.group.consumer.member import ClassicMetadata, ConsumerMember
from barnabas.coordinators.group.consumer.records import (
    CurrentAssignmentKey,
    CurrentAssignmentValue,
    EpochKey,
    EpochValue,
    ExpressionKey,
    ExpressionValue,
    MemberMetadataKey,
    MemberMetadataValue,
    PartitionMetadataKey,
    TargetEpochKey,
    TargetEpochValue,
    TargetMemberKey,
    TargetMemberValue,
)
from barnabas.coordinators.group.consumer.state import MemberState
from barnabas.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.wire.message import Message

__all__ = ["replay_record"]

M = TypeVar("M", bound="Message")

_NO_ASSIGNMENT_EPOCH = -1
_VERSION_SIZE = 2


def replay_record(
    key: Message,
    value: bytes | None,
    *,
    find: Callable[[str], ConsumerGroup | None],
    make: Callable[[str], ConsumerGroup],
) -> str | None:
    """Applies one record; gives the id of the group if that is removed by it.

    Args:
        key: The decoded key.
        value: The value with its version in front, None for a tombstone.
        find: Gives a group by its id.
        make: As `find`, and makes the group if there is none.

    Raises:
        DecodeError: The value is not one that its key announces.
    """
    group_id: str = key.group_id  # type: ignore[attr-defined]  # each key of a consumer group begins with it
    group = find(group_id) if value is None else make(group_id)
    if group is None:
        return None
    if isinstance(key, EpochKey):
        if value is None:
            return group_id
        epoch = _decoded(EpochValue, value)
        group.set_epoch(epoch.epoch, epoch.metadata_hash)
    elif isinstance(key, MemberMetadataKey):
        _replay_member(group, key.member_id, value)
    elif isinstance(key, CurrentAssignmentKey):
        _replay_current_assignment(group, key.member_id, value)
    elif isinstance(key, TargetMemberKey):
        _replay_target(group, key.member_id, value)
    elif isinstance(key, TargetEpochKey):
        if value is None:
            group.set_assignment_epoch(_NO_ASSIGNMENT_EPOCH, 0)
        else:
            target = _decoded(TargetEpochValue, value)
            group.set_assignment_epoch(target.assignment_epoch, target.assignment_timestamp)
    elif isinstance(key, ExpressionKey):
        _replay_expression(group, key.regular_expression, value)
    else:
        assert isinstance(key, PartitionMetadataKey)
        group.has_partition_metadata = value is not None
    return None


def _decoded(message: type[M], value: bytes) -> M:
    version = int.from_bytes(value[:_VERSION_SIZE], "big")
    if len(value) < _VERSION_SIZE or version != 0:
        raise DecodeError(f"{message.__name__} has version {version}, known is 0")
    decoded: Any = message.decode(value, 0, _VERSION_SIZE)
    return decoded  # type: ignore[no-any-return]  # an M


def _replay_member(group: ConsumerGroup, member_id: str, value: bytes | None) -> None:
    if value is None:
        group.remove(member_id)
        return
    said = _decoded(MemberMetadataValue, value)
    classic = said.classic_member_metadata
    member = group.members.get(member_id) or ConsumerMember(member_id)
    group.put(
        member._replace(
            instance_id=said.instance_id,
            rack_id=said.rack_id,
            rebalance_timeout_ms=said.rebalance_timeout_ms,
            client_id=said.client_id,
            client_host=said.client_host,
            topic_names=frozenset(said.subscribed_topic_names),
            topic_regex=said.subscribed_topic_regex or "",
            server_assignor=said.server_assignor,
            classic=None
            if classic is None
            else ClassicMetadata(
                classic.session_timeout_ms,
                tuple([(protocol.name, protocol.metadata) for protocol in classic.supported_protocols]),
            ),
        )
    )


def _replay_current_assignment(group: ConsumerGroup, member_id: str, value: bytes | None) -> None:
    if value is None:
        group.dispossess(member_id)
        return
    has = _decoded(CurrentAssignmentValue, value)
    member = group.members.get(member_id) or ConsumerMember(member_id)
    group.put(
        member._replace(
            member_epoch=has.member_epoch,
            previous_member_epoch=has.previous_member_epoch,
            state=MemberState.of(has.state),
            assigned=_owned(has.assigned_partitions, has.member_epoch),
            revoking=_owned(has.partitions_pending_revocation, has.member_epoch),
        )
    )


def _owned(
    topics: list[CurrentAssignmentValue.TopicPartitions], member_epoch: int
) -> dict[bytes, dict[int, int]]:
    """Versions before 4.3 do not say in which epoch a partition was assigned; then it is the member's."""
    owned = {}
    for topic in topics:
        epochs = topic.assignment_epochs
        if epochs is None or len(epochs) != len(topic.partitions):
            epochs = [max(member_epoch, 0)] * len(topic.partitions)
        owned[topic.topic_id] = dict(zip(topic.partitions, epochs, strict=True))
    return owned


def _replay_target(group: ConsumerGroup, member_id: str, value: bytes | None) -> None:
    if value is None:
        group.targets.pop(member_id, None)
        return
    target = _decoded(TargetMemberValue, value)
    group.targets[member_id] = {
        topic.topic_id: frozenset(topic.partitions) for topic in target.topic_partitions
    }


def _replay_expression(group: ConsumerGroup, regex: str, value: bytes | None) -> None:
    if value is None:
        group.remove_expression(regex)
        return
    resolved = _decoded(ExpressionValue, value)
    group.put_expression(
        regex, ResolvedExpression(frozenset(resolved.topics), resolved.version, resolved.timestamp)
    )
