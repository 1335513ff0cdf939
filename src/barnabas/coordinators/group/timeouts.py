"""What happens to a group when a deadline is reached: sessions end, rebalances stop waiting."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.group.group import NEVER
from barnabas.coordinators.group.leave import remove_member
from barnabas.coordinators.group.rebalance import (
    complete_join,
    extend_initial_wait_or_complete,
    gather_or_complete,
    prepare_rebalance,
)
from barnabas.coordinators.group.state import GroupState
from barnabas.coordinators.group.sync import release_sync

if TYPE_CHECKING:
    from barnabas.coordinators.group.effects import Effects
    from barnabas.coordinators.group.group import ClassicGroup

__all__ = ["on_deadline"]

logger = logging.getLogger(__name__)


def on_deadline(group: ClassicGroup, effects: Effects) -> None:
    """Does whatever is due in the group at `effects.now`.

    Members whose sessions end at the same time go together, in one rebalance.
    """
    now_ms = effects.now.monotonic_ms
    _end_pending(group, now_ms)
    ended = [
        member for member in group.members.values() if member.deadline_ms <= now_ms and member.may_expire
    ]
    for member in ended:
        logger.info(
            "member is removed, nothing was heard of it group=%s member=%s client=%s host=%s session_timeout_ms=%d",
            group.group_id,
            member.member_id,
            member.client_id,
            member.client_host,
            member.session_timeout_ms,
        )
        remove_member(group, member, effects)
    state = group.state
    if ended and state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
        names = ", ".join(member.member_id for member in ended)
        prepare_rebalance(group, effects, f"session timeout of {names}", ended[0])
    elif state is GroupState.PREPARING_REBALANCE:
        _go_on_joining(group, effects)
    if group.held_until_ms <= now_ms:
        release_sync(group, effects)
    if group.sync_deadline_ms <= now_ms:
        _end_pending_sync(group, effects)


def _end_pending(group: ClassicGroup, now_ms: float) -> None:
    for member_id in [
        member_id for member_id, pending in group.pending_members.items() if pending.deadline_ms <= now_ms
    ]:
        logger.info(
            "member was given an id and did not come back group=%s member=%s", group.group_id, member_id
        )
        del group.pending_members[member_id]


def _go_on_joining(group: ClassicGroup, effects: Effects) -> None:
    if group.join_deadline_ms <= effects.now.monotonic_ms:
        if group.gathers_until_ms is not None:
            gather_or_complete(group, effects)
        elif group.initial_delay_ms is not None:
            extend_initial_wait_or_complete(group, effects)
        else:
            complete_join(group, effects)
    elif group.all_joined and (group.initial_delay_ms is None or not group.members):
        complete_join(group, effects)


def _end_pending_sync(group: ClassicGroup, effects: Effects) -> None:
    """Members that have the generation and never asked for their assignment are gone."""
    group.sync_deadline_ms = NEVER
    missing = [group.members[member_id] for member_id in group.members if member_id in group.pending_sync]
    if not missing or group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
        return
    for member in missing:
        remove_member(group, member, effects)
    names = ", ".join(member.member_id for member in missing)
    prepare_rebalance(group, effects, f"no SyncGroup came from {names}", missing[0])
