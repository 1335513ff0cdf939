"""Members of the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

To such a member the group looks like any other. It never leads; its generation is its member epoch; a JoinGroup is a heartbeat that
tells what it wants and owns, answered at once, a SyncGroup brings what it may read. A Heartbeat asks it to rejoin whenever it
should give something up or can have something more.

Source: KIP-848; Kafka's `classicGroupJoinToConsumerGroup` and its neighbours.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from barnabas.coordinators.group.consumer.consumer_protocol import (
    decode_subscription,
    encode_assignment,
)
from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.consumer.heartbeat import (
    check_instance,
    check_room,
    replace_member,
    take_step,
)
from barnabas.coordinators.group.consumer.leave import remove_members
from barnabas.coordinators.group.consumer.member import ClassicMetadata, ConsumerMember
from barnabas.coordinators.group.consumer.migration import can_downgrade_with_replaced, downgrade
from barnabas.coordinators.group.consumer.state import MemberState
from barnabas.coordinators.group.consumer.subscriptions import note_member
from barnabas.coordinators.group.consumer.target import MemberTarget, update_target
from barnabas.coordinators.shard import CoordinatorResult
from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.wire.messages.join_group import JoinGroupResponse
from barnabas.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.group.consumer.step import Step
    from barnabas.coordinators.group.join import Joining
    from barnabas.coordinators.shard import Now
    from barnabas.wire.messages.sync_group import SyncGroupRequest

__all__ = ["heartbeat_classic", "join_classic", "leave_classic", "sync_classic"]

logger = logging.getLogger(__name__)

_UNKNOWN_MEMBER = ""
_MEMBER_ID_REQUIRED_FROM = 4
_CONSUMER = "consumer"


# ----- JoinGroup


def join_classic(
    step: Step,
    joining: Joining,
    finish: Callable[[str, Callable[[Step], None], Now], CoordinatorResult[None]],
    find: Callable[[str], object],
    arm: Callable[[ConsumerGroup], None],
) -> None:
    """JoinGroup to a consumer group that has members; `joining.waiter` is answered when the records are committed.

    Raises:
        KafkaError: GROUP_MAX_SIZE_REACHED, INCONSISTENT_GROUP_PROTOCOL, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    """
    group = step.group
    request = joining.request
    member_id = request.member_id or joining.new_member_id
    instance_id = request.group_instance_id
    check_room(step, request.member_id)
    if not group.supports_classic(request.protocol_type, [name for name, _ in joining.protocols]):
        raise KafkaError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"Member {member_id}'s protocols are not supported."
        )
    is_unknown = request.member_id == _UNKNOWN_MEMBER
    if instance_id is None and is_unknown and joining.version >= _MEMBER_ID_REQUIRED_FROM:
        step.answer(
            joining.waiter,
            JoinGroupResponse(member_id=member_id, error_code=ErrorCode.MEMBER_ID_REQUIRED),
        )
        return
    try:
        subscription = decode_subscription(joining.protocols[0][1], step.topics)
    except DecodeError as error:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"malformed subscription: {error}") from None
    replaced = group.static_member(instance_id)
    before = _member(step, member_id, instance_id, is_unknown=is_unknown)
    becomes_classic = can_downgrade_with_replaced(step, replaced)
    after = before._replace(
        instance_id=before.instance_id if instance_id is None else instance_id,
        rack_id=before.rack_id if subscription.rack_id is None else subscription.rack_id,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        topic_names=subscription.topics,
        topic_regex="",
        client_id=joining.client_id,
        client_host=joining.client_host,
        classic=ClassicMetadata(request.session_timeout_ms, joining.protocols),
    )
    update = note_member(step, before, after, finish, is_classic=True)
    if becomes_classic:
        after = _rejoin_as_classic(
            step, after, subscription.owned, update.group_epoch, changed=update.is_changed
        )
    else:
        target = update_target(step, update.group_epoch, before, after)
        after = take_step(step, after, target, subscription.owned, subscription_changed=update.is_changed)
    response = JoinGroupResponse(
        member_id=after.member_id,
        generation_id=after.member_epoch,
        protocol_type=_CONSUMER,
        protocol_name=joining.protocols[0][0],
    )
    step.completion = _Joined(group.group_id, after, joining.waiter, response, find, arm)


def _member(step: Step, member_id: str, instance_id: str | None, *, is_unknown: bool) -> ConsumerMember:
    group = step.group
    if instance_id is None:
        logger.info("member joins by the classic protocol group=%s member=%s", group.group_id, member_id)
        return group.members.get(member_id) or ConsumerMember(member_id)
    present = group.static_member(instance_id)
    if not is_unknown:
        return check_instance(group, present, member_id, instance_id)
    if present is None:
        logger.info(
            "static member joins by the classic protocol group=%s member=%s instance=%s",
            group.group_id,
            member_id,
            instance_id,
        )
        return group.members.get(member_id) or ConsumerMember(member_id)
    return replace_member(step, present, member_id)


def _rejoin_as_classic(
    step: Step, member: ConsumerMember, owned: Any, group_epoch: int, *, changed: bool
) -> ConsumerMember:
    """The last member of the consumer protocol came back by the classic one."""
    group = step.group
    rebalance = group.assignment_epoch < group_epoch
    if not rebalance:
        replaced = group.static_member(member.instance_id)
        assert replaced is not None
        target = MemberTarget(group.assignment_epoch, group.target_of(replaced.member_id))
        member = take_step(step, member, target, owned, subscription_changed=changed)
    downgrade(
        step,
        joining=member,
        rebalance=rebalance,
        reason=f"static member {member.instance_id} came back by the classic protocol",
    )
    return member


class _Joined:
    """A member's words are being written; it is answered when they are committed."""

    __slots__ = ("_arm", "_find", "_group_id", "_member", "_response", "_waiter")

    def __init__(
        self,
        group_id: str,
        member: ConsumerMember,
        waiter: Any,
        response: JoinGroupResponse,
        find: Callable[[str], object],
        arm: Callable[[ConsumerGroup], None],
    ) -> None:
        self._group_id = group_id
        self._member = member
        self._waiter = waiter
        self._response = response
        self._find = find
        self._arm = arm

    def committed(self, now: Now) -> CoordinatorResult[None] | None:
        """It has its generation, and until its rebalance timeout to fetch the assignment."""
        group = self._find(self._group_id)
        member = self._member
        if isinstance(group, ConsumerGroup) and member.member_id in group.members:
            assert member.classic is not None
            group.joins.pop(member.member_id, None)
            group.start_session(member.member_id, now.monotonic_ms + member.classic.session_timeout_ms)
            deadline_ms = now.monotonic_ms + member.rebalance_timeout_ms
            group.syncs[member.member_id] = deadline_ms
            group.wake_at(deadline_ms)
            self._arm(group)
        return _answered(self._waiter, self._response)

    def failed(self, error: KafkaError, now: Now) -> CoordinatorResult[None] | None:
        """It tries again."""
        del now
        return _answered(self._waiter, JoinGroupResponse(error_code=error.code))


def _answered(waiter: Any, response: JoinGroupResponse) -> CoordinatorResult[None]:
    return CoordinatorResult(None, answers=[(waiter, response)])


# ----- SyncGroup


def sync_classic(step: Step, request: SyncGroupRequest) -> SyncGroupResponse:
    """What a member may read.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL,
            REBALANCE_IN_PROGRESS.
    """
    group = step.group
    member = _classic_member(group, request.member_id, request.group_instance_id)
    assert member.classic is not None
    _check_generation(member, request.generation_id)
    protocol_name, metadata = member.classic.protocols[0]
    if request.protocol_type not in (None, _CONSUMER) or request.protocol_name not in (None, protocol_name):
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if group.assignment_epoch > member.member_epoch and member.state is not MemberState.UNREVOKED_PARTITIONS:
        _await_rejoin(step, member)
        raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
    session_ends_ms = step.now.monotonic_ms + member.classic.session_timeout_ms
    group.syncs.pop(member.member_id, None)
    group.start_session(member.member_id, session_ends_ms)
    return SyncGroupResponse(
        protocol_type=request.protocol_type,
        protocol_name=request.protocol_name,
        assignment=encode_assignment(member.assigned, metadata, step.topics),
    )


# ----- Heartbeat


def heartbeat_classic(step: Step, member_id: str, instance_id: str | None, generation_id: int) -> ErrorCode:
    """A sign of life; REBALANCE_IN_PROGRESS asks the member to rejoin.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION.
    """
    group = step.group
    member = _classic_member(group, member_id, instance_id)
    assert member.classic is not None
    _check_generation(member, generation_id)
    group.start_session(member.member_id, step.now.monotonic_ms + member.classic.session_timeout_ms)
    if (
        member.member_epoch < group.assignment_epoch
        or member.state is MemberState.UNREVOKED_PARTITIONS
        or (member.state is MemberState.UNRELEASED_PARTITIONS and not group.is_waiting_for_others(member))
        or _nobody_else_moves(group, step.now.monotonic_ms)
    ):
        _await_rejoin(step, member)
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE


def _nobody_else_moves(group: ConsumerGroup, now_ms: float) -> bool:
    """Whether something has to be computed, and no member of the consumer protocol is left whose heartbeat would have it done.

    So it is where groups may not become classic ones again.
    """
    return group.classic_count == len(group.members) and (
        group.group_epoch > group.assignment_epoch or group.needs_refresh(now_ms)
    )


def _await_rejoin(step: Step, member: ConsumerMember) -> None:
    group = step.group
    if member.member_id not in group.joins:
        deadline_ms = step.now.monotonic_ms + member.rebalance_timeout_ms
        group.joins[member.member_id] = deadline_ms
        group.wake_at(deadline_ms)


# ----- LeaveGroup


def leave_classic(
    step: Step, identities: list[LeaveGroupRequest.MemberIdentity]
) -> list[LeaveGroupResponse.MemberResponse]:
    """Removes members of either protocol; an administrator names a static one by its instance id alone."""
    responses = []
    gone: dict[str, ConsumerMember] = {}
    for identity in identities:
        error = ErrorCode.NONE
        try:
            member = _leaving(step.group, identity)
            gone[member.member_id] = member
            logger.info(
                "member leaves group=%s member=%s client=%s reason=%s",
                step.group.group_id,
                member.member_id,
                member.client_id,
                identity.reason or "not provided",
            )
        except KafkaError as refusal:
            error = refusal.code
        responses.append(
            LeaveGroupResponse.MemberResponse(
                member_id=identity.member_id,
                group_instance_id=identity.group_instance_id,
                error_code=error,
            )
        )
    remove_members(step, list(gone.values()))
    return responses


def _leaving(group: ConsumerGroup, identity: LeaveGroupRequest.MemberIdentity) -> ConsumerMember:
    if identity.group_instance_id is None:
        return _member_of(group, identity.member_id)
    present = group.static_member(identity.group_instance_id)
    if present is not None and identity.member_id == _UNKNOWN_MEMBER:
        return present
    return check_instance(group, present, identity.member_id, identity.group_instance_id)


# ----- who it is


def _member_of(group: ConsumerGroup, member_id: str) -> ConsumerMember:
    member = group.members.get(member_id)
    if member is None:
        raise KafkaError(
            ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group.group_id}."
        )
    return member


def _classic_member(group: ConsumerGroup, member_id: str, instance_id: str | None) -> ConsumerMember:
    if instance_id is None:
        member = _member_of(group, member_id)
    else:
        member = check_instance(group, group.static_member(instance_id), member_id, instance_id)
    if not member.uses_classic_protocol:
        raise KafkaError(
            ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} does not use the classic protocol."
        )
    return member


def _check_generation(member: ConsumerMember, generation_id: int) -> None:
    if member.member_epoch != generation_id:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
