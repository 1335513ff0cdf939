"""SyncGroup: the leader hands in the assignment, everyone gets their part once it is committed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from barnabas.coordinators.group.effects import Effects
from barnabas.coordinators.group.group import NEVER
from barnabas.coordinators.group.member import NO_ASSIGNMENT
from barnabas.coordinators.group.rebalance import prepare_rebalance, reset_assignments
from barnabas.coordinators.group.records import group_metadata_record
from barnabas.coordinators.group.state import GroupState
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.member import Member
    from barnabas.coordinators.group.settings import GroupSettings
    from barnabas.coordinators.shard import CoordinatorResult, Now
    from barnabas.wire.messages.sync_group import SyncGroupRequest

__all__ = ["release_sync", "sync"]

logger = logging.getLogger(__name__)


def sync(group: ClassicGroup, request: SyncGroupRequest, waiter: Any, effects: Effects) -> None:
    """Answers the request, or parks it until the leader's assignment is committed."""
    try:
        member = _check(group, request)
    except KafkaError as error:
        effects.refuse_sync(waiter, error.code)
        return
    _synced(group, member)
    if group.state is GroupState.STABLE:
        effects.answer(waiter, _assigned(group, member))
        return
    if member.sync_waiter is not None:
        # The client asked again, maybe over another connection. Answers leave in order, so the first must not hang.
        effects.refuse_sync(member.sync_waiter, ErrorCode.REBALANCE_IN_PROGRESS)
    member.sync_waiter = waiter
    if group.leader_id == member.member_id:
        _take_assignment(group, request, effects)


def _take_assignment(group: ClassicGroup, request: SyncGroupRequest, effects: Effects) -> None:
    """Writes the leader's assignment, unless somebody is on the way in.

    Who gets an assignment now would hear of the next rebalance by a heartbeat, in seconds. Who still waits for one hears of it at once.
    """
    until_ms = group.expected_until_ms
    if effects.now.monotonic_ms < until_ms:
        group.held_sync = request
        group.held_until_ms = until_ms
        group.wake_at(until_ms)
    else:
        _write_assignment(group, request, effects)


def release_sync(group: ClassicGroup, effects: Effects) -> None:
    """Whoever was on the way has not come in time: the generation gets its assignment."""
    request = group.held_sync
    group.drop_held_sync()
    if request is not None and group.state is GroupState.COMPLETING_REBALANCE:
        _write_assignment(group, request, effects)


def _check(group: ClassicGroup, request: SyncGroupRequest) -> Member:
    if group.state is GroupState.EMPTY:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
    member = group.check_member(request.member_id, request.group_instance_id, "sync")
    if request.generation_id != group.generation_id:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
    if _differ(request.protocol_type, group.protocol_type) or _differ(
        request.protocol_name, group.protocol_name
    ):
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if group.state is GroupState.PREPARING_REBALANCE:
        raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
    return member


def _differ(requested: str | None, known: str | None) -> bool:
    return requested is not None and known is not None and requested != known


def _synced(group: ClassicGroup, member: Member) -> None:
    group.pending_sync.discard(member.member_id)
    if not group.pending_sync:
        group.sync_deadline_ms = NEVER


def _assigned(group: ClassicGroup, member: Member) -> SyncGroupResponse:
    return SyncGroupResponse(
        protocol_type=group.protocol_type, protocol_name=group.protocol_name, assignment=member.assignment
    )


def _write_assignment(group: ClassicGroup, request: SyncGroupRequest, effects: Effects) -> None:
    given = {each.member_id: each.assignment for each in request.assignments}
    without = [member_id for member_id in group.members if member_id not in given]
    if without:
        logger.warning(
            "leader assigned nothing to some members group=%s generation=%d leader=%s members=%s",
            group.group_id,
            group.generation_id,
            group.leader_id,
            ",".join(without),
        )
    assignments = {member_id: given.get(member_id, NO_ASSIGNMENT) for member_id in group.members}
    effects.records.append(group_metadata_record(group, assignments))
    effects.completion = _AssignmentWrite(group, assignments, effects.settings)


class _AssignmentWrite:
    """The assignment of a generation on its way into the log. Members see it only once it is committed."""

    __slots__ = ("_assignments", "_generation_id", "_group", "_settings")

    def __init__(
        self, group: ClassicGroup, assignments: Mapping[str, bytes], settings: GroupSettings
    ) -> None:
        self._group = group
        self._generation_id = group.generation_id
        self._assignments = assignments
        self._settings = settings

    def _is_current(self) -> bool:
        """False if a rebalance overtook it."""
        group = self._group
        return group.state is GroupState.COMPLETING_REBALANCE and group.generation_id == self._generation_id

    def committed(self, now: Now) -> CoordinatorResult[None] | None:
        """The group is stable: hands out the assignment."""
        if not self._is_current():
            return None
        group = self._group
        effects = Effects(now, self._settings)
        group.is_persisted = True
        for member in group.members.values():
            member.assignment = self._assignments.get(member.member_id, NO_ASSIGNMENT)
            if member.sync_waiter is not None:
                effects.answer_sync(member, _assigned(group, member))
                group.start_session(member, now.monotonic_ms, member.session_timeout_ms)
        group.transition_to(GroupState.STABLE, now.wall_ms)
        logger.info(
            "group is stable group=%s generation=%d members=%d static=%d",
            group.group_id,
            group.generation_id,
            len(group.members),
            len(group.static_members),
        )
        return effects.result(None)

    def failed(self, error: KafkaError, now: Now) -> CoordinatorResult[None] | None:
        """Nobody gets an assignment that might be lost: the members try again."""
        if not self._is_current():
            return None
        effects = Effects(now, self._settings)
        reset_assignments(self._group, effects, error.code)
        prepare_rebalance(self._group, effects, f"the assignment could not be written: {error.code.name}")
        return effects.result(None)
