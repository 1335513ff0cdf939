"""Heartbeat: a member lives; is its generation still the one?

Kept short: a heartbeat of thousands of members each moves one deadline back and touches no timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.group.state import GroupState
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from barnabas.coordinators.group.group import ClassicGroup

__all__ = ["heartbeat"]


def heartbeat(
    group: ClassicGroup, member_id: str, group_instance_id: str | None, generation_id: int, now_ms: float
) -> ErrorCode:
    """Begins the member's session anew; REBALANCE_IN_PROGRESS asks it to rejoin."""
    if group_instance_id is None:
        member = group.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
    else:
        try:
            member = group.check_member(member_id, group_instance_id, "heartbeat")
        except KafkaError as error:
            return error.code
    if generation_id != group.generation_id:
        return ErrorCode.ILLEGAL_GENERATION
    member.deadline_ms = now_ms + member.session_timeout_ms
    if group.state is GroupState.PREPARING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE
