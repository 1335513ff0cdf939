"""Members go: by themselves, removed by an administrator, or because nothing was heard of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.heartbeat import check_instance
from barnabas.coordinators.group.consumer.member import (
    NO_PARTITIONS,
    STATIC_LEAVING_EPOCH,
    with_epoch,
    without_epochs,
)
from barnabas.coordinators.group.consumer.migration import can_downgrade_without, downgrade
from barnabas.coordinators.group.consumer.records import current_assignment_record, member_tombstones
from barnabas.coordinators.group.consumer.subscriptions import note_gone
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.coordinators.group.consumer.member import ConsumerMember
    from barnabas.coordinators.group.consumer.step import Step

__all__ = ["leave", "remove_members"]

logger = logging.getLogger(__name__)


def leave(step: Step, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse:
    """The last heartbeat of a member, or of a static one before a restart.

    Raises:
        KafkaError: UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID.
    """
    group = step.group
    member_id = request.member_id
    if request.instance_id is None:
        member = group.members.get(member_id)
        if member is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group.group_id}."
            )
    else:
        member = check_instance(
            group, group.static_member(request.instance_id), member_id, request.instance_id
        )
    epoch = request.member_epoch
    logger.info(
        "member leaves group=%s member=%s instance=%s epoch=%d",
        group.group_id,
        member_id,
        request.instance_id,
        epoch,
    )
    if request.instance_id is not None and epoch == STATIC_LEAVING_EPOCH:
        # Its partitions stay its own; whoever comes back for them has them from the beginning of time.
        away = member._replace(
            member_epoch=STATIC_LEAVING_EPOCH,
            assigned=with_epoch(without_epochs(member.assigned), 0),
            revoking=NO_PARTITIONS,
        )
        step.records.append(current_assignment_record(group.group_id, away))
    else:
        remove_members(step, [member])
    return ConsumerGroupHeartbeatResponse(member_id=member_id, member_epoch=epoch)


def remove_members(step: Step, members: Sequence[ConsumerMember]) -> None:
    """Removes members; a group that only members of the classic protocol are left of becomes a classic one."""
    if not members:
        return
    group = step.group
    if can_downgrade_without(step, members):
        downgrade(
            step,
            gone=members,
            reason=f"the last member of the consumer protocol left group {group.group_id}",
        )
        return
    for member in members:
        step.records += member_tombstones(group.group_id, member.member_id)
    note_gone(step, members)
    logger.info(
        "group rebalances group=%s epoch=%d members=%d reason=members left: %s",
        group.group_id,
        group.group_epoch + 1,
        len(group.members) - len(members),
        ", ".join(member.member_id for member in members),
    )
