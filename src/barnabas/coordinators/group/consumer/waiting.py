"""When a member that waits is to come back: as soon as what it waits for may have happened.

    for a new target       when the interval between two of them is over
    for partitions         when their owner is due to be heard; and once it has been told to give them up, after as long again as
                           that is ago: most give up at once, some first finish what they do

Only somebody who waits is in a hurry, and the more do the less, so that a group of any size makes do with some thousand heartbeats a
second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.state import MemberState

if TYPE_CHECKING:
    from barnabas.coordinators.group.consumer.group import ConsumerGroup
    from barnabas.coordinators.group.consumer.member import ConsumerMember
    from barnabas.coordinators.group.consumer.step import Step
    from barnabas.coordinators.group.consumer.target import MemberTarget

__all__ = ["heartbeat_interval_ms"]

_SHORTEST_MS = 50
_WAITING_FOR_EACH_MS = 4  # of the shortest interval, members for a millisecond more
_ON_ITS_WAY_MS = 10
"""A heartbeat that is due takes a moment until it is here, and what it brings another one."""


def heartbeat_interval_ms(step: Step, member: ConsumerMember, group_epoch: int, target: MemberTarget) -> int:
    """What a member is told to keep until its next heartbeat, in a group that goes to `group_epoch`."""
    settings = step.settings.consumer
    group = step.group
    pace = settings.pace_of(group.group_id)
    if not settings.waiting_heartbeat_interval_ms:
        return pace.heartbeat_interval_ms
    count = len(group.members)
    longest_ms = min(pace.heartbeat_interval_ms, settings.waiting_heartbeat_interval_ms + count)
    waits_ms: list[float] = []
    if target.epoch < group_epoch:
        due_ms = group.assignment_timestamp_ms + pace.assignment_interval_ms
        waits_ms.append(due_ms - step.now.wall_ms + _ON_ITS_WAY_MS)
    if member.state is MemberState.UNRELEASED_PARTITIONS:
        waits_ms.append(_until_released_ms(group, member, target, step.now.monotonic_ms))
    if member.topic_regex and member.topic_regex not in group.expressions:
        waits_ms.append(longest_ms)
    if not waits_ms:
        return pace.heartbeat_interval_ms
    shortest_ms = _SHORTEST_MS + count // _WAITING_FOR_EACH_MS
    return int(min(max(min(waits_ms), shortest_ms), longest_ms))


def _until_released_ms(
    group: ConsumerGroup, member: ConsumerMember, target: MemberTarget, now_ms: float
) -> float:
    owners = {
        group.owner_of(topic_id, partition)
        for topic_id, partitions in target.assignment.items()
        for partition in partitions
        if partition not in member.assigned.get(topic_id, ())
    }
    soonest_ms = math.inf
    for owner_id in owners:
        owner = None if owner_id is None else group.members.get(owner_id)
        if owner is None:
            continue
        revocation = group.revocations.get(owner.member_id)
        if revocation is None:
            wait_ms = group.expected.get(owner.member_id, math.inf) - now_ms + _ON_ITS_WAY_MS
        else:
            told_ms = revocation[0] - owner.rebalance_timeout_ms
            wait_ms = now_ms - told_ms
        soonest_ms = min(soonest_ms, wait_ms)
    return soonest_ms
