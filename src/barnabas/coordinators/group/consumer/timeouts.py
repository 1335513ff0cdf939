"""What happens to a consumer group when a deadline is reached: whoever kept it waiting is removed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.leave import remove_members

if TYPE_CHECKING:
    from barnabas.coordinators.group.consumer.group import ConsumerGroup
    from barnabas.coordinators.group.consumer.step import Step

__all__ = ["on_deadline"]

logger = logging.getLogger(__name__)

_RETRY_MS = 1_000


def on_deadline(step: Step) -> None:
    """Removes all members that are late at `step.now`, in one step."""
    group = step.group
    late = _late(group, step.now.monotonic_ms)
    for member_id, reason in late.items():
        member = group.members[member_id]
        logger.info(
            "member is removed group=%s member=%s client=%s host=%s epoch=%d reason=%s",
            group.group_id,
            member_id,
            member.client_id,
            member.client_host,
            member.member_epoch,
            reason,
        )
        # Should the records not be written, this is tried again.
        group.start_session(member_id, step.now.monotonic_ms + _RETRY_MS)
    remove_members(step, [group.members[member_id] for member_id in late])


def _late(group: ConsumerGroup, now_ms: float) -> dict[str, str]:
    late: dict[str, str] = {}
    for member_id, deadline_ms in list(group.sessions.items()):
        if deadline_ms <= now_ms:
            late[member_id] = "nothing was heard of it"
    for member_id, (deadline_ms, epoch) in list(group.revocations.items()):
        if deadline_ms <= now_ms:
            del group.revocations[member_id]
            if member_id in group.members and group.members[member_id].member_epoch == epoch:
                late[member_id] = "it did not give up its partitions in time"
    for deadlines, reason in (
        (group.joins, "it did not rejoin in time"),
        (group.syncs, "it did not fetch its assignment in time"),
    ):
        for member_id, deadline_ms in list(deadlines.items()):
            if deadline_ms <= now_ms:
                del deadlines[member_id]
                late[member_id] = reason
    return {member_id: reason for member_id, reason in late.items() if member_id in group.members}
