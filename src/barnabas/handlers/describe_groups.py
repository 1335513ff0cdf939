"""DescribeGroups (15), versions 0-6: state and members of classic groups.

Behaviour: a group that does not exist is described as Dead. See `coordinators.group.describe`.

    1   throttle time      3   authorised operations (KIP-430)      4   group instance ids (KIP-345)
    5   flexible           6   GROUP_ID_NOT_FOUND with a message for a group that does not exist (KIP-1043)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.authorized_operations import GROUP_OPERATIONS
from barnabas.wire.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 15

_OPERATIONS_FROM = 3

_DescribedGroup = DescribeGroupsResponse.DescribedGroup


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeGroupsRequest
) -> DescribeGroupsResponse:
    """Describes each group that is asked for."""
    version = context.api_version
    groups = []
    for group_id in request.groups:
        try:
            described = broker.group_coordinator.describe_group(group_id, version)
        except KafkaError as error:
            broker.log_refusal(context, f"group {group_id}", error)
            described = _DescribedGroup(group_id=group_id, error_code=error.code)
        if (
            version >= _OPERATIONS_FROM
            and request.include_authorized_operations
            and described.error_code == ErrorCode.NONE
        ):
            described.authorized_operations = GROUP_OPERATIONS
        groups.append(described)
    return DescribeGroupsResponse(groups=groups)


def error_response(request: DescribeGroupsRequest, version: int, error: KafkaError) -> DescribeGroupsResponse:
    """Every group of the request has the same error."""
    del version
    return DescribeGroupsResponse(
        groups=[_DescribedGroup(group_id=group_id, error_code=error.code) for group_id in request.groups]
    )
