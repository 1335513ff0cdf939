"""The range assignor: each topic is cut into as many ranges as it has subscribers, and the members get theirs in order.

Members are ordered by instance id, and by member id if they have none (those come last). So topics with as many partitions and
the same subscribers are cut alike, and a member has the same partitions of each: what joins rely on. A member that comes or
goes only moves the borders.

Source: Kafka's `RangeAssignor`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.coordinators.group.consumer.assignors.spec import MemberSpec, Topics

__all__ = ["assign_range"]


def assign_range(members: Mapping[str, MemberSpec], topics: Topics) -> dict[str, dict[bytes, frozenset[int]]]:
    """See `Assignor`."""
    subscribers: Counter[bytes] = Counter()
    for member in members.values():
        subscribers.update(member.topic_ids)
    counts = {topic_id: topics.partition_count(topic_id) for topic_id in subscribers}
    next_partition = dict.fromkeys(subscribers, 0)
    extras = {topic_id: counts[topic_id] % subscribers[topic_id] for topic_id in subscribers}
    assignment: dict[str, dict[bytes, frozenset[int]]] = {}
    for member_id in sorted(members, key=lambda member_id: _order(member_id, members[member_id])):
        given = assignment[member_id] = {}
        for topic_id in sorted(members[member_id].topic_ids):
            size = counts[topic_id] // subscribers[topic_id]
            if extras[topic_id]:
                extras[topic_id] -= 1
                size += 1
            if size:
                start = next_partition[topic_id]
                next_partition[topic_id] = start + size
                given[topic_id] = frozenset(range(start, start + size))
    return assignment


def _order(member_id: str, member: MemberSpec) -> tuple[bool, str]:
    if member.instance_id is None:
        return True, member_id
    return False, member.instance_id
