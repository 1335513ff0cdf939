"""What administrators are told of groups: DescribeGroups and ListGroups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.describe import CONSUMER, listed_consumer_group
from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.state import GroupState
from barnabas.errors import ErrorCode
from barnabas.wire.messages.describe_groups import DescribeGroupsResponse
from barnabas.wire.messages.list_groups import ListGroupsResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.coordinators.group.group import ClassicGroup

__all__ = ["CLASSIC", "GroupFilter", "describe", "describe_missing", "listed"]

CLASSIC = "classic"
_NOT_FOUND_FROM = 6


def describe(group: ClassicGroup) -> DescribeGroupsResponse.DescribedGroup:
    """A group and its members; protocol and metadata only while it is stable, as Kafka has it."""
    is_stable = group.state is GroupState.STABLE
    return DescribeGroupsResponse.DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=(group.protocol_name or "") if is_stable else "",
        members=[
            DescribeGroupsResponse.DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=(member.metadata(group.protocol_name) or b"") if is_stable else b"",
                member_assignment=member.assignment,
            )
            for member in group.members.values()
        ],
    )


def describe_missing(
    group_id: str, version: int, *, exists: bool = False
) -> DescribeGroupsResponse.DescribedGroup:
    """A group that does not exist, or is none of the classic ones: dead, and from version 6 on an error too (KIP-1043)."""
    described = DescribeGroupsResponse.DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
    if version >= _NOT_FOUND_FROM:
        described.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        described.error_message = (
            f"Group {group_id} is not a classic group." if exists else f"Group {group_id} not found."
        )
    return described


class GroupFilter:
    """Which groups a ListGroups asks for (KIP-518, KIP-848). Names count in any case; an unknown one matches nothing."""

    __slots__ = ("_states", "_types")

    def __init__(self, states: Iterable[str], types: Iterable[str]) -> None:
        self._states = frozenset(state.strip().lower() for state in states)
        self._types = frozenset(kind.strip().lower() for kind in types)

    def matches(self, group: ClassicGroup | ConsumerGroup) -> bool:
        """Whether the group is asked for."""
        if self._types and (CONSUMER if isinstance(group, ConsumerGroup) else CLASSIC) not in self._types:
            return False
        return not self._states or group.state.value.lower() in self._states


def listed(group: ClassicGroup | ConsumerGroup) -> ListGroupsResponse.ListedGroup:
    """One line of the list of groups."""
    if isinstance(group, ConsumerGroup):
        return listed_consumer_group(group)
    return ListGroupsResponse.ListedGroup(
        group_id=group.group_id,
        protocol_type=group.protocol_type or "",
        group_state=group.state.value,
        group_type=CLASSIC,
    )
