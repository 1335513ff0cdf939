"""The rebalance: waiting for members to rejoin, and starting the next generation with those who did."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.group.group import NEVER
from barnabas.coordinators.group.member import NO_ASSIGNMENT
from barnabas.coordinators.group.records import group_metadata_record
from barnabas.coordinators.group.state import GroupState
from barnabas.errors import ErrorCode
from barnabas.wire.messages.join_group import JoinGroupResponse
from barnabas.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from barnabas.coordinators.group.effects import Effects
    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.member import Member

__all__ = [
    "complete_join",
    "complete_join_if_all_joined",
    "extend_initial_wait_or_complete",
    "gather_or_complete",
    "join_members",
    "join_response",
    "prepare_rebalance",
    "rebalance_or_complete_join",
    "reset_assignments",
]

logger = logging.getLogger(__name__)

_GATHERING_MS_MAX = 3_000


def rebalance_or_complete_join(
    group: ClassicGroup, effects: Effects, reason: str, member: Member | None = None
) -> None:
    """Something about the members changed: begins a rebalance, or goes on with the one under way."""
    if group.can_rebalance:
        prepare_rebalance(group, effects, reason, member)
    else:
        complete_join_if_all_joined(group, effects)


def prepare_rebalance(
    group: ClassicGroup, effects: Effects, reason: str, member: Member | None = None
) -> None:
    """Begins a rebalance: members learn of it by their heartbeats, and have the rebalance timeout to rejoin.

    An empty group waits for more members first, if `group.initial.rebalance.delay.ms` says so, or if some are on their way.
    """
    if group.state is GroupState.COMPLETING_REBALANCE:
        reset_assignments(group, effects, ErrorCode.REBALANCE_IN_PROGRESS)
    group.pending_sync.clear()
    group.drop_held_sync()
    group.sync_deadline_ms = NEVER
    is_initial = group.state is GroupState.EMPTY
    logger.info(
        "group rebalances group=%s state=%s generation=%d members=%d member=%s client=%s reason=%s",
        group.group_id,
        group.state.value,
        group.generation_id,
        len(group.members),
        "-" if member is None else member.member_id,
        "-" if member is None else f"{member.client_id}@{member.client_host.removeprefix('/')}",
        reason,
    )
    group.transition_to(GroupState.PREPARING_REBALANCE, effects.now.wall_ms)
    if is_initial:
        _wait_for_first_members(group, effects)
    elif group.all_joined:
        complete_join(group, effects)
    else:
        _set_join_deadline(group, effects, group.rebalance_timeout_ms)


def _set_join_deadline(group: ClassicGroup, effects: Effects, delay_ms: float) -> None:
    group.join_deadline_ms = effects.now.monotonic_ms + max(delay_ms, 0)
    group.wake_at(group.join_deadline_ms)


# ----- the first rebalance of an empty group (KIP-134)


def _wait_for_first_members(group: ClassicGroup, effects: Effects) -> None:
    delay_ms = effects.settings.group_initial_rebalance_delay_ms
    if delay_ms <= 0:
        group.gathers_until_ms = effects.now.monotonic_ms + _GATHERING_MS_MAX
        gather_or_complete(group, effects)
        return
    group.initial_delay_ms = delay_ms
    group.initial_remaining_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
    _set_join_deadline(group, effects, delay_ms)


def gather_or_complete(group: ClassicGroup, effects: Effects) -> None:
    """Without a delay: waits for those who have just been given an id, if there are any, else goes on.

    Consumers that are started together ask for their ids within milliseconds. Whoever is left out of the first generation is waited
    for by the others' next heartbeats, and that is seconds.
    """
    now_ms = effects.now.monotonic_ms
    assert group.gathers_until_ms is not None
    until_ms = min(group.expected_until_ms, group.gathers_until_ms)
    if now_ms < until_ms:
        _set_join_deadline(group, effects, until_ms - now_ms)
    else:
        complete_join(group, effects)


def extend_initial_wait_or_complete(group: ClassicGroup, effects: Effects) -> None:
    """The delay is over: another one if a member joined meanwhile and the rebalance timeout allows it, else go on."""
    if group.new_member_added and group.initial_remaining_ms > 0 and group.initial_delay_ms is not None:
        group.new_member_added = False
        last_delay_ms = group.initial_delay_ms
        delay_ms = min(effects.settings.group_initial_rebalance_delay_ms, group.initial_remaining_ms)
        group.initial_delay_ms = delay_ms
        group.initial_remaining_ms = max(group.initial_remaining_ms - last_delay_ms, 0)
        _set_join_deadline(group, effects, delay_ms)
    else:
        complete_join(group, effects)


# ----- the end of the joining


def complete_join_if_all_joined(group: ClassicGroup, effects: Effects) -> None:
    """Goes on to the next generation if nobody is missing; the delay of an empty group always runs its time."""
    if (
        group.state is GroupState.PREPARING_REBALANCE
        and (group.previous_state is not GroupState.EMPTY or group.gathers_until_ms is not None)
        and group.all_joined
    ):
        complete_join(group, effects)


def complete_join(group: ClassicGroup, effects: Effects) -> None:
    """Removes dynamic members that did not rejoin and starts the next generation with the others.

    With nobody left the group is empty, which is written down. If only static members are left and none of them has
    rejoined, the rebalance waits on until their sessions end.
    """
    now = effects.now
    group.join_deadline_ms = NEVER
    group.initial_delay_ms = None
    group.gathers_until_ms = None
    group.new_member_added = False
    missing = [m for m in group.members.values() if m.join_waiter is None and not m.is_static]
    for member in missing:
        group.remove(member.member_id)
    if missing:
        logger.info(
            "members did not rejoin in time and are removed group=%s generation=%d members=%s",
            group.group_id,
            group.generation_id,
            ",".join(member.member_id for member in missing),
        )
    if group.members and not group.elect_joined_leader():
        logger.warning(
            "rebalance waits on, none of the static members rejoined group=%s members=%d",
            group.group_id,
            len(group.members),
        )
        _set_join_deadline(group, effects, group.rebalance_timeout_ms)
        return
    group.next_generation(now.wall_ms)
    if group.state is GroupState.EMPTY:
        logger.info("group is empty group=%s generation=%d", group.group_id, group.generation_id)
        effects.records.append(group_metadata_record(group, {}))
        group.is_persisted = True
        return
    logger.info(
        "group has a new generation group=%s generation=%d members=%d protocol=%s leader=%s",
        group.group_id,
        group.generation_id,
        len(group.members),
        group.protocol_name,
        group.leader_id,
    )
    for member in group.members.values():
        if member.join_waiter is not None:
            effects.answer_join(member, join_response(group, member))
            group.release_join(member)
        group.start_session(member, now.monotonic_ms, member.session_timeout_ms)
        member.is_new = False
        group.pending_sync.add(member.member_id)
    group.sync_deadline_ms = now.monotonic_ms + max(group.rebalance_timeout_ms, 0)
    group.wake_at(group.sync_deadline_ms)


def join_response(
    group: ClassicGroup, member: Member, *, leader_id: str | None = None, skip_assignment: bool = False
) -> JoinGroupResponse:
    """Tells a member its generation, and the leader who the members are.

    `leader_id` names another leader than the group's: a leader that came back under a new id must not assign again, and before
    version 9 the only way to tell is that it is none (KIP-814).
    """
    leader_id = group.leader_id if leader_id is None else leader_id
    return JoinGroupResponse(
        generation_id=group.generation_id,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        leader=leader_id or "",
        skip_assignment=skip_assignment,
        member_id=member.member_id,
        members=join_members(group) if leader_id == member.member_id else [],
    )


def join_members(group: ClassicGroup) -> list[JoinGroupResponse.JoinGroupResponseMember]:
    """All members with what they say under the group's protocol, for the leader."""
    return [
        JoinGroupResponse.JoinGroupResponseMember(
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            metadata=member.metadata(group.protocol_name) or b"",
        )
        for member in group.members.values()
    ]


def reset_assignments(group: ClassicGroup, effects: Effects, error: ErrorCode) -> None:
    """Drops what was assigned and answers all parked SyncGroups with an error."""
    for member in group.members.values():
        member.assignment = NO_ASSIGNMENT
        if member.sync_waiter is not None:
            effects.answer_sync(member, SyncGroupResponse(error_code=error))
            group.start_session(member, effects.now.monotonic_ms, member.session_timeout_ms)
