"""What administrators are told of consumer groups: ConsumerGroupDescribe and ListGroups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.consumer_group_describe import ConsumerGroupDescribeResponse
from barnabas.wire.messages.list_groups import ListGroupsResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.coordinators.group.consumer.group import ConsumerGroup
    from barnabas.coordinators.group.consumer.member import ConsumerMember
    from barnabas.coordinators.group.consumer.topics import TopicCatalog

__all__ = ["CONSUMER", "describe_consumer_group", "describe_not_consumer", "listed_consumer_group"]

CONSUMER = "consumer"
_CLASSIC_MEMBER = 0
_CONSUMER_MEMBER = 1

_Assignment = ConsumerGroupDescribeResponse.Assignment
_DescribedGroup = ConsumerGroupDescribeResponse.DescribedGroup
_Member = ConsumerGroupDescribeResponse.Member
_TopicPartitions = ConsumerGroupDescribeResponse.TopicPartitions


def describe_consumer_group(
    group: ConsumerGroup, default_assignor: str, topics: TopicCatalog
) -> _DescribedGroup:
    """A group with its members: what each has (with what it is giving up), and what it shall have."""
    return _DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        group_epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
        assignor_name=group.preferred_assignor() or default_assignor,
        members=[_described(group, member, topics) for member in group.members.values()],
    )


def _described(group: ConsumerGroup, member: ConsumerMember, topics: TopicCatalog) -> _Member:
    owned: dict[bytes, list[int]] = {}
    for partitions_by_topic in (member.assigned, member.revoking):
        for topic_id, partitions in partitions_by_topic.items():
            owned.setdefault(topic_id, []).extend(partitions)
    return _Member(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.topic_names),
        subscribed_topic_regex=member.topic_regex,
        assignment=_assignment(owned, topics),
        target_assignment=_assignment(group.target_of(member.member_id), topics),
        member_type=_CLASSIC_MEMBER if member.uses_classic_protocol else _CONSUMER_MEMBER,
    )


def _assignment(assignment: Mapping[bytes, Iterable[int]], topics: TopicCatalog) -> _Assignment:
    described = []
    for topic_id, partitions in assignment.items():
        name = topics.name_of(topic_id)
        if name is not None:
            described.append(
                _TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(partitions))
            )
    return _Assignment(topic_partitions=described)


def describe_not_consumer(group_id: str, *, exists: bool) -> _DescribedGroup:
    """A group that does not exist, or is of another kind."""
    return _DescribedGroup(
        group_id=group_id,
        error_code=ErrorCode.GROUP_ID_NOT_FOUND,
        error_message=f"Group {group_id} is not a consumer group."
        if exists
        else f"Group {group_id} not found.",
    )


def listed_consumer_group(group: ConsumerGroup) -> ListGroupsResponse.ListedGroup:
    """One line of the list of groups."""
    return ListGroupsResponse.ListedGroup(
        group_id=group.group_id,
        protocol_type=group.protocol_type,
        group_state=group.state.value,
        group_type=CONSUMER,
    )
