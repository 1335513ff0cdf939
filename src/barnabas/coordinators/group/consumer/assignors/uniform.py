"""The uniform assignor: members have as many partitions as each other, give or take one, and keep what they have.

Balance comes before stickiness, and stickiness before racks: of what is to be handed out, and of what is to be given up,
a member prefers to have what lies in its own rack.

Source: Kafka's `UniformHomogeneousAssignmentBuilder`. Preferring racks is our own; Kafka left that out again in 4.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.assignors.uniform_mixed import assign_mixed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.coordinators.group.consumer.assignors.spec import MemberSpec, Topics

__all__ = ["assign_uniform"]


def assign_uniform(
    members: Mapping[str, MemberSpec], topics: Topics
) -> dict[str, dict[bytes, frozenset[int]]]:
    """See `Assignor`."""
    if len({member.topic_ids for member in members.values()}) > 1:
        return assign_mixed(members, topics)
    return _assign_same(members, topics)


def _assign_same(members: Mapping[str, MemberSpec], topics: Topics) -> dict[str, dict[bytes, frozenset[int]]]:
    """All members subscribe to the same topics."""
    if not members:
        return {}
    topic_ids = sorted(next(iter(members.values())).topic_ids)
    unassigned = {
        (topic_id, partition)
        for topic_id in topic_ids
        for partition in range(topics.partition_count(topic_id))
    }
    low, extra = divmod(len(unassigned), len(members))
    kept: dict[str, list[tuple[bytes, int]]] = {}
    for member_id, member in members.items():
        has = [
            (topic_id, partition)
            for topic_id, partitions in member.assigned.items()
            for partition in sorted(partitions)
            if (topic_id, partition) in unassigned
        ]
        if len(has) > low:
            may_have = low + 1 if extra else low
            has = _nearest_first(has, member, topics)[:may_have]
            extra -= may_have - low
        unassigned.difference_update(has)
        kept[member_id] = has
    quotas = dict.fromkeys(members, low)
    for member_id, has in kept.items():
        if len(has) > low:
            quotas[member_id] = low + 1
    for member_id, has in kept.items():
        if extra and len(has) <= low:
            quotas[member_id] = low + 1
            extra -= 1
    _hand_out(members, topics, kept, quotas, sorted(unassigned))
    return {member_id: grouped(has) for member_id, has in kept.items()}


def _hand_out(
    members: Mapping[str, MemberSpec],
    topics: Topics,
    kept: dict[str, list[tuple[bytes, int]]],
    quotas: Mapping[str, int],
    unassigned: list[tuple[bytes, int]],
) -> None:
    """Fills the members up: first each from its own rack, then all from what is left."""
    left = dict.fromkeys(unassigned)
    by_rack: dict[str, list[tuple[bytes, int]]] = {}
    if any(member.rack_id is not None for member in members.values()):
        for partition in unassigned:
            for rack in set(topics.racks(*partition)):
                by_rack.setdefault(rack, []).append(partition)
    if by_rack:
        for member_id, member in members.items():
            has = kept[member_id]
            for partition in by_rack.get(member.rack_id or "", ()):
                if len(has) >= quotas[member_id]:
                    break
                if partition in left:
                    del left[partition]
                    has.append(partition)
    rest = iter(left)
    for member_id, has in kept.items():
        for _ in range(quotas[member_id] - len(has)):
            has.append(next(rest))


def _nearest_first(
    partitions: list[tuple[bytes, int]], member: MemberSpec, topics: Topics
) -> list[tuple[bytes, int]]:
    rack = member.rack_id
    if rack is None:
        return partitions
    return sorted(partitions, key=lambda partition: rack not in topics.racks(*partition))


def grouped(partitions: Iterable[tuple[bytes, int]]) -> dict[bytes, frozenset[int]]:
    """(topic id, partition) pairs by topic id."""
    by_topic: dict[bytes, set[int]] = {}
    for topic_id, partition in partitions:
        by_topic.setdefault(topic_id, set()).add(partition)
    return {topic_id: frozenset(indexes) for topic_id, indexes in by_topic.items()}
