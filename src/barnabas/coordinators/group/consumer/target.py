"""The target assignment: computed anew when the group epoch is ahead of it, written as far as it changed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.group.consumer.assignors import ASSIGNORS
from barnabas.coordinators.group.consumer.assignors.spec import MemberSpec
from barnabas.coordinators.group.consumer.records import target_epoch_record, target_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.coordinators.group.consumer.group import ConsumerGroup
    from barnabas.coordinators.group.consumer.member import ConsumerMember
    from barnabas.coordinators.group.consumer.step import Step
    from barnabas.coordinators.group.consumer.topics import TopicCatalog

__all__ = ["MemberTarget", "subscribed_topic_ids", "update_target"]

logger = logging.getLogger(__name__)


class MemberTarget(NamedTuple):
    """What one member shall have in which epoch."""

    epoch: int
    assignment: Mapping[bytes, frozenset[int]]


def update_target(
    step: Step, group_epoch: int, before: ConsumerMember, after: ConsumerMember
) -> MemberTarget:
    """What a member shall have, once it is `after` in place of `before` in a group that goes to `group_epoch`.

    A new target waits until the last one is `consumer.assignment.interval.ms` old: members that come together are given
    their partitions together.
    """
    group = step.group
    replaced_id = _replaced_id(group, after)
    if group.assignment_epoch >= group_epoch or not _is_due(step):
        return MemberTarget(group.assignment_epoch, group.target_of(replaced_id or after.member_id))
    name = group.preferred_assignor(before, after) or step.settings.consumer.assignors[0]
    members = {member_id: member for member_id, member in group.members.items() if member_id != replaced_id}
    members[after.member_id] = after
    specs = _specs(step, members, after.member_id, replaced_id)
    targets = ASSIGNORS[name](specs, step.topics)
    group_id = group.group_id
    changed = 0
    for member_id in specs:
        assignment = targets.get(member_id, {})
        if group.targets.get(member_id) != assignment:
            changed += 1
            step.records.append(target_record(group_id, member_id, assignment))
    step.records.append(target_epoch_record(group_id, group_epoch, step.now.wall_ms))
    logger.info(
        "group has a new target assignment group=%s epoch=%d assignor=%s members=%d changed=%d",
        group_id,
        group_epoch,
        name,
        len(members),
        changed,
    )
    return MemberTarget(group_epoch, targets.get(after.member_id, {}))


def _replaced_id(group: ConsumerGroup, member: ConsumerMember) -> str | None:
    """The id of the static member whose place this one takes."""
    if member.instance_id is None:
        return None
    member_id = group.static_members.get(member.instance_id)
    return None if member_id == member.member_id else member_id


def _is_due(step: Step) -> bool:
    last_ms = step.group.assignment_timestamp_ms
    interval_ms = step.settings.consumer.pace_of(step.group.group_id).assignment_interval_ms
    return last_ms == 0 or interval_ms == 0 or step.now.wall_ms >= last_ms + interval_ms


def _specs(
    step: Step, members: Mapping[str, ConsumerMember], changed_id: str, replaced_id: str | None
) -> dict[str, MemberSpec]:
    group = step.group
    # Most members of a group subscribe to the same.
    topic_ids: dict[tuple[frozenset[str], str], frozenset[bytes]] = {}
    specs = {}
    for member_id, member in members.items():
        subscription = (member.topic_names, member.topic_regex)
        if subscription not in topic_ids:
            topic_ids[subscription] = subscribed_topic_ids(group, step.topics, member)
        had_id = replaced_id if member_id == changed_id and replaced_id is not None else member_id
        specs[member_id] = MemberSpec(
            topic_ids[subscription], group.target_of(had_id), member.instance_id, member.rack_id
        )
    return specs


def subscribed_topic_ids(
    group: ConsumerGroup, topics: TopicCatalog, member: ConsumerMember
) -> frozenset[bytes]:
    """The ids of the topics that a member subscribes to; a pattern that is not resolved yet matches nothing."""
    names = member.topic_names
    if member.topic_regex:
        resolved = group.expressions.get(member.topic_regex)
        if resolved is not None:
            names = names | resolved.topics
    return topics.ids_of(names)
