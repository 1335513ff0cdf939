"""JoinGroup: who may join a group, under which id, and whether that rebalances it.

A dynamic member first gets an id and comes back with it (version 4 and later, KIP-394). A static member is known by its instance
id: when it comes back without a member id it takes its old place under a new one, which fences whoever held that (KIP-345).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from barnabas.coordinators.group.group import PendingMember
from barnabas.coordinators.group.member import Member, Protocols
from barnabas.coordinators.group.rebalance import (
    complete_join_if_all_joined,
    join_response,
    prepare_rebalance,
    rebalance_or_complete_join,
)
from barnabas.coordinators.group.records import group_metadata_record
from barnabas.coordinators.group.state import GroupState
from barnabas.coordinators.shard import CoordinatorResult
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.join_group import JoinGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from barnabas.coordinators.group.effects import Effects
    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.shard import Now
    from barnabas.wire.messages.join_group import JoinGroupRequest

__all__ = ["UNKNOWN_MEMBER", "Joining", "join"]

logger = logging.getLogger(__name__)

UNKNOWN_MEMBER = ""

_MEMBER_ID_REQUIRED_FROM = 4
_SKIP_ASSIGNMENT_FROM = 9


class Joining:
    """A JoinGroup request with what the coordinator adds to it.

    Attributes:
        request: As it came; version 0 has the session timeout as its rebalance timeout.
        version: The version in which it came.
        client_id: The client's name for itself, "" for none.
        client_host: Where it comes from, as Kafka writes it.
        new_member_id: The id that it gets if it needs one.
        waiter: Gets the answer.
        protocols: What the member supports, the best first.
    """

    __slots__ = ("client_host", "client_id", "new_member_id", "protocols", "request", "version", "waiter")

    def __init__(
        self,
        request: JoinGroupRequest,
        *,
        version: int,
        client_id: str,
        client_host: str,
        new_member_id: str,
        waiter: Any,
    ) -> None:
        self.request = request
        self.version = version
        self.client_id = client_id
        self.client_host = client_host
        self.new_member_id = new_member_id
        self.waiter = waiter
        self.protocols: Protocols = tuple(
            [(protocol.name, protocol.metadata) for protocol in request.protocols]
        )

    @property
    def reason(self) -> str:
        """Why the client joins, in its own words (KIP-800)."""
        return self.request.reason or "not provided"


def join(group: ClassicGroup, joining: Joining, effects: Effects) -> None:
    """Answers the request, or parks it until the members of the next generation are known."""
    request = joining.request
    member_id = request.member_id
    if not _has_room(group, member_id, effects.settings.group_max_size):
        logger.info(
            "group is full group=%s members=%d client=%s",
            group.group_id,
            len(group.members),
            joining.client_id,
        )
        _remove_refused(group, member_id)
        effects.refuse_join(joining.waiter, UNKNOWN_MEMBER, ErrorCode.GROUP_MAX_SIZE_REACHED)
    elif not group.supports(request.protocol_type, joining.protocols):
        logger.info(
            "member has no protocol in common with its group group=%s client=%s type=%s protocols=%s group_type=%s",
            group.group_id,
            joining.client_id,
            request.protocol_type,
            ",".join(name for name, _ in joining.protocols),
            group.protocol_type,
        )
        effects.refuse_join(joining.waiter, member_id, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    elif member_id != UNKNOWN_MEMBER:
        _join_with_id(group, joining, effects)
    elif request.group_instance_id is not None:
        _join_static(group, joining, effects)
    elif joining.version >= _MEMBER_ID_REQUIRED_FROM:
        _give_id(group, joining, effects)
    else:
        _add(group, joining, joining.new_member_id, effects)


def _has_room(group: ClassicGroup, member_id: str, group_max_size: int) -> bool:
    """Whether `group.max.size` lets this member in.

    While members rejoin, those who wait already count, and not the group's size: the limit may have been lowered, and the last
    ones to rejoin are those to go.
    """
    state = group.state
    if state is GroupState.PREPARING_REBALANCE:
        member = group.members.get(member_id)
        return (
            member is not None and member.join_waiter is not None
        ) or group.awaiting_join_count < group_max_size
    if state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
        return member_id in group.members or len(group.members) < group_max_size
    return True


def _remove_refused(group: ClassicGroup, member_id: str) -> None:
    if member_id != UNKNOWN_MEMBER:
        group.remove(member_id)


def _give_id(group: ClassicGroup, joining: Joining, effects: Effects) -> None:
    """A dynamic member's first request: it gets an id, and as long as its session timeout to come back with it."""
    if len(group.pending_members) >= effects.settings.group_max_pending_members:
        logger.warning(
            "too many members were given an id and have not joined group=%s pending=%d client=%s",
            group.group_id,
            len(group.pending_members),
            joining.client_id,
        )
        effects.refuse_join(joining.waiter, UNKNOWN_MEMBER, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        return
    now_ms = effects.now.monotonic_ms
    pending = PendingMember(now_ms, now_ms + joining.request.session_timeout_ms)
    group.pending_members[joining.new_member_id] = pending
    group.wake_at(pending.deadline_ms)
    effects.refuse_join(joining.waiter, joining.new_member_id, ErrorCode.MEMBER_ID_REQUIRED)


def _add(group: ClassicGroup, joining: Joining, member_id: str, effects: Effects) -> None:
    """Takes in a member and rebalances.

    A client whose JoinGroup is parked sends no heartbeats, and may be gone without our noticing. If it retries, each time as a
    new member, the group would fill up with the dead; so new members wait a limited time.
    """
    request = joining.request
    member = Member(
        member_id,
        group_instance_id=request.group_instance_id,
        client_id=joining.client_id,
        client_host=joining.client_host,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        session_timeout_ms=request.session_timeout_ms,
        protocol_type=request.protocol_type,
        protocols=joining.protocols,
    )
    member.is_new = True
    member.join_waiter = joining.waiter
    if group.state is GroupState.PREPARING_REBALANCE and group.previous_state is GroupState.EMPTY:
        group.new_member_added = True
    group.add(member)
    group.start_session(member, effects.now.monotonic_ms, effects.settings.group_new_member_join_timeout_ms)
    static = "" if request.group_instance_id is None else f" as static member {request.group_instance_id}"
    rebalance_or_complete_join(
        group, effects, f"a member joins{static}; the client's reason: {joining.reason}", member
    )


# ----- members with an id


def _join_with_id(group: ClassicGroup, joining: Joining, effects: Effects) -> None:
    request = joining.request
    member_id = request.member_id
    if member_id in group.pending_members:
        if request.group_instance_id is not None:
            # Static members get their id without this detour; Kafka has no better answer either, and leaves out the id.
            effects.refuse_join(joining.waiter, "", ErrorCode.UNKNOWN_SERVER_ERROR)
            return
        _add(group, joining, member_id, effects)
        return
    try:
        member = group.check_member(member_id, request.group_instance_id, "join")
    except KafkaError as error:
        effects.refuse_join(joining.waiter, member_id, error.code)
        return
    state = group.state
    if state is GroupState.PREPARING_REBALANCE:
        _rejoin(group, joining, member, "a member rejoins", effects)
    elif state is GroupState.COMPLETING_REBALANCE:
        if member.protocols == joining.protocols:
            # It may not have received the answer to its first JoinGroup.
            effects.answer(joining.waiter, join_response(group, member))
        else:
            _rejoin(group, joining, member, "a member's metadata changed", effects)
    elif state is GroupState.STABLE:
        if group.leader_id == member_id:
            # The leader rejoins if anything else that counts has changed, such as the number of a topic's partitions.
            _rejoin(group, joining, member, "the leader rejoins", effects)
        elif member.protocols != joining.protocols:
            _rejoin(group, joining, member, "a member's metadata changed", effects)
        else:
            effects.answer(joining.waiter, join_response(group, member))
    else:
        effects.refuse_join(joining.waiter, member_id, ErrorCode.UNKNOWN_MEMBER_ID)


def _rejoin(group: ClassicGroup, joining: Joining, member: Member, reason: str, effects: Effects) -> None:
    _take_over(group, joining, member, effects)
    rebalance_or_complete_join(group, effects, f"{reason}; the client's reason: {joining.reason}", member)


def _take_over(group: ClassicGroup, joining: Joining, member: Member, effects: Effects) -> None:
    """The member says what it supports now, and its request is parked."""
    request = joining.request
    group.update(
        member,
        protocols=joining.protocols,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        session_timeout_ms=request.session_timeout_ms,
    )
    replaced = group.park_join(member, joining.waiter)
    if replaced is not None:
        # The client asked again, maybe over another connection. Answers leave in order, so the first must not hang.
        effects.refuse_join(replaced, member.member_id, ErrorCode.REBALANCE_IN_PROGRESS)


# ----- static members without an id


def _join_static(group: ClassicGroup, joining: Joining, effects: Effects) -> None:
    instance_id = joining.request.group_instance_id
    assert instance_id is not None
    old_member_id = group.static_members.get(instance_id)
    if old_member_id is None:
        _add(group, joining, joining.new_member_id, effects)
        return
    member = group.members[old_member_id]
    logger.info(
        "static member came back group=%s instance=%s member=%s before=%s client=%s state=%s",
        group.group_id,
        instance_id,
        joining.new_member_id,
        old_member_id,
        joining.client_id,
        group.state.value,
    )
    _replace(group, joining, member, effects)


def _replace(group: ClassicGroup, joining: Joining, member: Member, effects: Effects) -> None:
    """Puts the process that came back in the place of the one that was there, whose parked requests are fenced.

    In a stable group whose protocol would stay the same nothing else happens: everyone keeps the assignment, and the new id is
    written down before the member learns of it.
    """
    before = _Before(group, member)
    _fence(group, member, effects)
    group.rename_static(member, joining.new_member_id)
    member.is_new = False
    member.client_id = joining.client_id
    member.client_host = joining.client_host
    _take_over(group, joining, member, effects)
    group.start_session(member, effects.now.monotonic_ms, member.session_timeout_ms)
    state = group.state
    if state is GroupState.STABLE:
        if group.select_protocol() == group.protocol_name:
            assignments = {each.member_id: each.assignment for each in group.members.values()}
            effects.records.append(group_metadata_record(group, assignments))
            effects.completion = _StaticReturn(group, member, joining, before)
        else:
            prepare_rebalance(
                group,
                effects,
                f"a static member's protocols changed; the client's reason: {joining.reason}",
                member,
            )
    elif state is GroupState.COMPLETING_REBALANCE:
        # The leader may be assigning to the old id just now.
        prepare_rebalance(
            group, effects, f"a static member came back; the client's reason: {joining.reason}", member
        )
    else:
        complete_join_if_all_joined(group, effects)


def _fence(group: ClassicGroup, member: Member, effects: Effects) -> None:
    fenced = ErrorCode.FENCED_INSTANCE_ID
    if member.join_waiter is not None:
        effects.answer_join(member, JoinGroupResponse(member_id=member.member_id, error_code=fenced))
        group.release_join(member)
    effects.answer_sync(member, SyncGroupResponse(error_code=fenced))


class _Before:
    """A static member as it was, should its new id not be written."""

    __slots__ = ("client_host", "client_id", "leader_id", "member_id", "protocols", "timeouts_ms")

    def __init__(self, group: ClassicGroup, member: Member) -> None:
        self.leader_id = group.leader_id
        self.member_id = member.member_id
        self.client_id = member.client_id
        self.client_host = member.client_host
        self.protocols = member.protocols
        self.timeouts_ms = (member.rebalance_timeout_ms, member.session_timeout_ms)


class _StaticReturn:
    """The new id of a static member is being written while its group stays stable."""

    __slots__ = ("_before", "_group", "_joining", "_member")

    def __init__(self, group: ClassicGroup, member: Member, joining: Joining, before: _Before) -> None:
        self._group = group
        self._member = member
        self._joining = joining
        self._before = before

    def _still_waits(self) -> bool:
        member = self._member
        return (
            self._group.members.get(self._joining.new_member_id) is member
            and member.join_waiter is self._joining.waiter
        )

    def committed(self, now: Now) -> CoordinatorResult[None] | None:
        """Tells the member its generation. If a rebalance began meanwhile, that will answer it."""
        group, member = self._group, self._member
        if group.state is not GroupState.STABLE or not self._still_waits():
            return None
        if self._joining.version >= _SKIP_ASSIGNMENT_FROM:
            response = join_response(group, member, skip_assignment=group.leader_id == member.member_id)
        else:
            response = join_response(group, member, leader_id=self._before.leader_id)
        return self._answer(now, response)

    def failed(self, error: KafkaError, now: Now) -> CoordinatorResult[None] | None:
        """Puts the old id back: the log does not know the new one."""
        group, member, before = self._group, self._member, self._before
        if not self._still_waits():
            return None
        response = JoinGroupResponse(
            generation_id=group.generation_id,
            protocol_type=group.protocol_type,
            protocol_name=group.protocol_name,
            leader=before.leader_id or "",
            error_code=error.code,
        )
        result = self._answer(now, response)
        rebalance_timeout_ms, session_timeout_ms = before.timeouts_ms
        group.rename_static(member, before.member_id)
        member.client_id = before.client_id
        member.client_host = before.client_host
        group.update(
            member,
            protocols=before.protocols,
            rebalance_timeout_ms=rebalance_timeout_ms,
            session_timeout_ms=session_timeout_ms,
        )
        return result

    def _answer(self, now: Now, response: JoinGroupResponse) -> CoordinatorResult[None]:
        group, member = self._group, self._member
        group.release_join(member)
        group.start_session(member, now.monotonic_ms, member.session_timeout_ms)
        return CoordinatorResult(None, answers=[(self._joining.waiter, response)])
