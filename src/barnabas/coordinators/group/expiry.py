"""When committed offsets expire, and with them their group (KIP-211).

    a group without members            the retention after it became empty
    a live group of consumers          the retention after the commit, for topics it no longer subscribes to
    a consumer group                   the retention after the commit, for topics it does not subscribe to
    any other live group               never
    a simple group                     the retention after the commit
    an offset with a time of its own   at that time (clients that sent OffsetCommit 2-4 with a retention time)

A group without members goes when its last offset goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.consumer.records import group_tombstones
from barnabas.coordinators.group.records import group_tombstone, offset_tombstone
from barnabas.coordinators.group.state import GroupState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.offsets import CommittedOffset, Offsets
    from barnabas.coordinators.shard import CoordinatorRecord

__all__ = ["expire_group", "topics_deleted"]


def expire_group(
    group: ClassicGroup | ConsumerGroup, offsets: Offsets, now_ms: int, retention_ms: int
) -> list[CoordinatorRecord]:
    """Tombstones for what has expired."""
    group_id = group.group_id
    committed = offsets.committed.of_group(group_id)
    records: list[CoordinatorRecord] = []
    all_expired = True
    if committed:
        if not _may_expire(group):
            return []
        since_empty_ms = _since_empty_ms(group)
        for topic, partitions in committed.items():
            in_use = group.is_subscribed_to(topic)
            for partition, offset in partitions.items():
                if (
                    not in_use
                    and _is_expired(offset, since_empty_ms, now_ms, retention_ms)
                    and not offsets.is_pending(group_id, topic, partition)
                ):
                    records.append(offset_tombstone(group_id, topic, partition))
                else:
                    all_expired = False
    if all_expired and not group.members and not offsets.has_open_transactions(group_id):
        if isinstance(group, ConsumerGroup):
            records += group_tombstones(group)
        elif group.state is GroupState.EMPTY and not group.pending_members:
            records.append(group_tombstone(group_id))
    return records


def _since_empty_ms(group: ClassicGroup | ConsumerGroup) -> int | None:
    """When the group's members went, where that counts and not the time of the commit."""
    if isinstance(group, ConsumerGroup):
        return None
    if group.state is GroupState.EMPTY and group.protocol_type is not None:
        return group.state_timestamp_ms
    return None


def _may_expire(group: ClassicGroup | ConsumerGroup) -> bool:
    if isinstance(group, ConsumerGroup):
        return True
    if group.protocol_type is None or group.state is GroupState.EMPTY:
        return True
    return group.state is GroupState.STABLE and group.subscribed_topics is not None


def _is_expired(offset: CommittedOffset, since_empty_ms: int | None, now_ms: int, retention_ms: int) -> bool:
    if offset.expire_timestamp_ms is not None:
        return now_ms >= offset.expire_timestamp_ms
    since_ms = offset.commit_timestamp_ms if since_empty_ms is None else since_empty_ms
    return now_ms - since_ms >= retention_ms


def topics_deleted(offsets: Offsets, topics: Mapping[str, bytes]) -> list[CoordinatorRecord]:
    """Tombstones for all offsets of topics (ids by name) that are gone. A later topic of the same name keeps its own."""
    found: dict[tuple[str, str, int], None] = {}
    for table in (offsets.committed, *offsets.pending.values()):
        for group_id in table.groups():
            of_group = table.of_group(group_id)
            for topic in of_group.keys() & topics.keys():
                for partition, offset in of_group[topic].items():
                    if offset.is_for(topics[topic]):
                        found[group_id, topic, partition] = None
    return [offset_tombstone(*key) for key in found]
