"""LeaveGroup: members go, by themselves or removed by an administrator."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.group.join import UNKNOWN_MEMBER
from barnabas.coordinators.group.rebalance import complete_join_if_all_joined, prepare_rebalance
from barnabas.coordinators.group.state import GroupState
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from barnabas.coordinators.group.effects import Effects
    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.member import Member

__all__ = ["leave", "remove_member"]

logger = logging.getLogger(__name__)

MemberIdentity = LeaveGroupRequest.MemberIdentity
MemberResponse = LeaveGroupResponse.MemberResponse


def leave(group: ClassicGroup, identities: list[MemberIdentity], effects: Effects) -> list[MemberResponse]:
    """Removes the members one by one, and rebalances once for all of them."""
    responses = []
    gone = []
    for identity in identities:
        error = _leave_one(group, identity, effects)
        responses.append(
            MemberResponse(
                member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=error
            )
        )
        if error == ErrorCode.NONE:
            gone.append(
                f"{identity.member_id or identity.group_instance_id} ({identity.reason or 'no reason given'})"
            )
    if gone:
        state = group.state
        if state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            prepare_rebalance(group, effects, f"members leave: {', '.join(gone)}")
        elif state is GroupState.PREPARING_REBALANCE:
            complete_join_if_all_joined(group, effects)
    return responses


def _leave_one(group: ClassicGroup, identity: MemberIdentity, effects: Effects) -> ErrorCode:
    member_id = identity.member_id
    instance_id = identity.group_instance_id
    if member_id == UNKNOWN_MEMBER:
        # An administrator names a static member by its instance id alone.
        current_id = None if instance_id is None else group.static_members.get(instance_id)
        if current_id is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        member = group.members[current_id]
    elif member_id in group.pending_members:
        group.remove(member_id)
        return ErrorCode.NONE
    else:
        try:
            member = group.check_member(member_id, instance_id, "leave")
        except KafkaError as error:
            return error.code
    logger.info(
        "member leaves group=%s member=%s client=%s reason=%s",
        group.group_id,
        member.member_id,
        member.client_id,
        identity.reason or "not provided",
    )
    remove_member(group, member, effects)
    return ErrorCode.NONE


def remove_member(group: ClassicGroup, member: Member, effects: Effects) -> None:
    """Forgets a member. Should it still wait for something, it is told to begin anew."""
    if member.join_waiter is not None:
        effects.refuse_join(member.join_waiter, UNKNOWN_MEMBER, ErrorCode.UNKNOWN_MEMBER_ID)
    effects.answer_sync(member, SyncGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID))
    group.remove(member.member_id)
