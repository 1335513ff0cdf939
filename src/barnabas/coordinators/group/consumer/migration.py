"""A live group changes its protocol: classic to consumer with the first member that comes, and back with the last that goes.

Upgrade: the classic group's assignment becomes target and current assignment of a consumer group, whose members go on by
JoinGroup, SyncGroup and Heartbeat (`classic_members.py`). Nobody loses a partition by it.

Downgrade: when only members of the classic protocol are left, their target assignment becomes that of a classic group, which
rebalances.

Source: KIP-848; Kafka's `convertToConsumerGroup`, `convertToClassicGroup`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.consumer_protocol import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
)
from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.consumer.member import ClassicMetadata, ConsumerMember, with_epoch
from barnabas.coordinators.group.consumer.records import group_tombstones
from barnabas.coordinators.group.effects import Effects
from barnabas.coordinators.group.group import ClassicGroup
from barnabas.coordinators.group.member import Member
from barnabas.coordinators.group.rebalance import prepare_rebalance
from barnabas.coordinators.group.records import group_metadata_record
from barnabas.coordinators.group.state import GroupState
from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.wire.messages.join_group import JoinGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.coordinators.group.consumer.step import Step
    from barnabas.coordinators.group.consumer.topics import TopicCatalog
    from barnabas.coordinators.group.settings import GroupSettings
    from barnabas.coordinators.shard import Answer, Now

__all__ = [
    "can_downgrade_with_replaced",
    "can_downgrade_without",
    "check_upgrade",
    "downgrade",
    "release_waiters",
    "upgraded",
]

logger = logging.getLogger(__name__)

_CONSUMER = "consumer"
_KNOWN_ASSIGNORS = frozenset({"range", "roundrobin", "sticky", "cooperative-sticky"})
"""These keep nothing in assignments that anyone reads; librdkafka copies what members said into them."""


# ----- classic to consumer


def check_upgrade(group: ClassicGroup, settings: GroupSettings) -> None:
    """Whether a classic group with members may become a consumer group.

    Raises:
        KafkaError: GROUP_ID_NOT_FOUND, with the reason.
    """
    if not settings.consumer.allows_upgrade:
        reason = "online upgrade is disabled"
    elif not group.uses_consumer_protocol:
        reason = "the group does not use the consumer embedded protocol"
    elif len(group.members) > settings.consumer.max_size:
        reason = "the group size exceeds the consumer group maximum size"
    else:
        return
    raise _not_upgraded(group, reason)


def _not_upgraded(group: ClassicGroup, reason: str) -> KafkaError:
    logger.info("classic group can not become a consumer group group=%s reason=%s", group.group_id, reason)
    return KafkaError(
        ErrorCode.GROUP_ID_NOT_FOUND,
        f"Cannot upgrade classic group {group.group_id} to consumer group because {reason}.",
    )


def upgraded(group: ClassicGroup, topics: TopicCatalog) -> ConsumerGroup:
    """The consumer group that a classic group becomes, with everyone's partitions where they are.

    Raises:
        KafkaError: GROUP_ID_NOT_FOUND if that can not be done.
    """
    made = ConsumerGroup(group.group_id)
    generation = group.generation_id
    try:
        for member in group.members.values():
            assignment, has_user_data = decode_assignment(member.assignment, topics)
            if has_user_data and group.protocol_name not in _KNOWN_ASSIGNORS:
                raise _custom_assignor(group)
            metadata = member.metadata(group.protocol_name)
            if metadata is None:
                # The first rebalance of the group is still under way, and nothing has been voted for.
                metadata = member.protocols[0][1]
            subscription = decode_subscription(metadata, topics)
            made.targets[member.member_id] = assignment
            made.put(
                ConsumerMember(
                    member.member_id,
                    member_epoch=generation,
                    previous_member_epoch=generation,
                    instance_id=member.group_instance_id,
                    rack_id=subscription.rack_id,
                    rebalance_timeout_ms=member.rebalance_timeout_ms,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    topic_names=subscription.topics,
                    assigned=with_epoch(assignment, generation),
                    classic=ClassicMetadata(member.session_timeout_ms, member.protocols),
                )
            )
    except DecodeError:
        raise _not_upgraded(group, "the embedded consumer protocol is malformed") from None
    made.set_epoch(generation, topics.hash_of(made.subscribed_topics()))
    made.set_assignment_epoch(generation, 0)
    return made


def _custom_assignor(group: ClassicGroup) -> KafkaError:
    logger.info(
        "classic group can not become a consumer group group=%s reason=%s",
        group.group_id,
        "its assignor keeps data of its own in assignments",
    )
    return KafkaError(
        ErrorCode.GROUP_ID_NOT_FOUND,
        f"Cannot upgrade classic group {group.group_id} to consumer group because an unsupported custom assignor is in use. "
        "Please refer to the documentation or switch to a default assignor before re-attempting the upgrade.",
    )


def release_waiters(group: ClassicGroup) -> list[Answer]:
    """Whoever waits for the classic group's rebalance is asked to join again."""
    answers: list[Answer] = []
    for member in group.members.values():
        if member.join_waiter is not None:
            response = JoinGroupResponse(
                member_id=member.member_id, error_code=ErrorCode.REBALANCE_IN_PROGRESS
            )
            answers.append((member.join_waiter, response))
            group.release_join(member)
        if member.sync_waiter is not None:
            answers.append(
                (member.sync_waiter, SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
            )
            member.sync_waiter = None
    return answers


# ----- consumer to classic


def can_downgrade_without(step: Step, gone: Sequence[ConsumerMember]) -> bool:
    """Whether the group is to become a classic one when these members have gone."""
    group = step.group
    left = len(group.members) - len(gone)
    classic_left = group.classic_count - sum(member.uses_classic_protocol for member in gone)
    return left > 0 and classic_left == left and _may_downgrade(step, left)


def can_downgrade_with_replaced(step: Step, replaced: ConsumerMember | None) -> bool:
    """Whether the group is to become a classic one when a static member comes back by the classic protocol."""
    group = step.group
    return (
        replaced is not None
        and not replaced.uses_classic_protocol
        and group.classic_count == len(group.members) - 1
        and _may_downgrade(step, len(group.members))
    )


def _may_downgrade(step: Step, size: int) -> bool:
    if not step.settings.consumer.allows_downgrade:
        reason = "online downgrade is disabled"
    elif size > step.settings.group_max_size:
        reason = "it is larger than group.max.size"
    else:
        return True
    logger.info(
        "consumer group can not become a classic group group=%s reason=%s", step.group.group_id, reason
    )
    return False


def downgrade(
    step: Step,
    *,
    reason: str,
    gone: Sequence[ConsumerMember] = (),
    joining: ConsumerMember | None = None,
    rebalance: bool = True,
) -> ClassicGroup:
    """Makes a classic group of what is left; gives it.

    Args:
        step: Of the group; its records may replace a static member by `joining` already.
        reason: Why, for the log.
        gone: The members that leave.
        joining: The static member that came back by the classic protocol, under its new id.
        rebalance: Whether the group has to rebalance.
    """
    group = step.group
    replaced = None if joining is None else group.static_member(joining.instance_id)
    gone_ids = {member.member_id for member in gone}
    left = [
        member
        for member in group.members.values()
        if member.member_id not in gone_ids and member is not replaced
    ]
    member_ids = None
    if joining is not None:
        left.append(joining)
        assert replaced is not None
        member_ids = [
            joining.member_id if member_id == replaced.member_id else member_id for member_id in group.members
        ]
    step.records += group_tombstones(group, member_ids)
    classic = _classic_group(step, left, joining, replaced)
    assignments = {member.member_id: member.assignment for member in classic.members.values()}
    step.records.append(group_metadata_record(classic, assignments))
    settings = step.settings

    def start(now: Now) -> None:
        for member in classic.members.values():
            classic.start_session(member, now.monotonic_ms, member.session_timeout_ms)
        if rebalance:
            effects = Effects(now, settings)
            prepare_rebalance(classic, effects, reason)
            assert not effects.answers
            assert not effects.records

    step.install(classic, start)
    logger.info(
        "consumer group becomes a classic group group=%s generation=%d members=%d reason=%s",
        group.group_id,
        classic.generation_id,
        len(classic.members),
        reason,
    )
    return classic


def _classic_group(
    step: Step,
    members: Sequence[ConsumerMember],
    joining: ConsumerMember | None,
    replaced: ConsumerMember | None,
) -> ClassicGroup:
    group = step.group
    classic = ClassicGroup(
        group.group_id,
        state=GroupState.STABLE,
        state_timestamp_ms=step.now.wall_ms,
        generation_id=group.group_epoch,
        protocol_type=_CONSUMER,
    )
    for member in members:
        assert member.classic is not None
        classic.add(
            Member(
                member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout_ms=member.rebalance_timeout_ms,
                session_timeout_ms=member.classic.session_timeout_ms,
                protocol_type=_CONSUMER,
                protocols=member.classic.protocols,
            )
        )
    classic.protocol_name = classic.select_protocol()
    classic.note_subscriptions()
    classic.is_persisted = True
    for each in classic.members.values():
        had_id = each.member_id
        if joining is not None and replaced is not None and had_id == joining.member_id:
            had_id = replaced.member_id
        metadata = each.metadata(classic.protocol_name) or b""
        try:
            each.assignment = encode_assignment(group.target_of(had_id), metadata, step.topics)
        except DecodeError as error:
            raise KafkaError(
                ErrorCode.GROUP_ID_NOT_FOUND, f"Cannot downgrade the classic group {group.group_id}: {error}."
            ) from None
    return classic
