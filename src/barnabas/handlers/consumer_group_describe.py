"""ConsumerGroupDescribe (69), versions 0-1: state, members and assignments of consumer groups (KIP-848).

Behaviour: a group that does not exist, or is a classic one, is GROUP_ID_NOT_FOUND. See `coordinators.group.consumer.describe`.

    0   as is       1   which protocol a member uses (KIP-1099)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import combine, settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.authorized_operations import GROUP_OPERATIONS
from barnabas.handlers.replies import codes
from barnabas.wire.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
)

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 69

_DescribedGroup = ConsumerGroupDescribeResponse.DescribedGroup


def handle(
    broker: BrokerServices, context: RequestContext, request: ConsumerGroupDescribeRequest
) -> ConsumerGroupDescribeResponse | asyncio.Future[ConsumerGroupDescribeResponse]:
    """Describes each group that is asked for."""
    if not broker.group_coordinator.serves_consumer_groups:
        return error_response(request, context.api_version, KafkaError(ErrorCode.UNSUPPORTED_VERSION))
    return settle(
        lambda: combine([_describe(broker, context, request, group_id) for group_id in request.group_ids]),
        then=lambda groups: ConsumerGroupDescribeResponse(groups=groups),
        refuse=lambda error: error_response(request, context.api_version, error),
    )


def _describe(
    broker: BrokerServices, context: RequestContext, request: ConsumerGroupDescribeRequest, group_id: str
) -> _DescribedGroup | asyncio.Future[_DescribedGroup]:
    def complete(group: _DescribedGroup) -> _DescribedGroup:
        if request.include_authorized_operations and group.error_code == ErrorCode.NONE:
            group.authorized_operations = GROUP_OPERATIONS
        return group

    def refuse(error: KafkaError) -> _DescribedGroup:
        broker.log_refusal(context, f"group {group_id}", error)
        return _refused(group_id, error)

    return settle(
        lambda: broker.group_coordinator.describe_consumer_group(group_id), then=complete, refuse=refuse
    )


def _refused(group_id: str, error: KafkaError) -> _DescribedGroup:
    code, message = codes(error)
    # Of the empty name Kafka says nothing but the code.
    return _DescribedGroup(group_id=group_id, error_code=code, error_message=message if group_id else None)


def error_response(
    request: ConsumerGroupDescribeRequest, version: int, error: KafkaError
) -> ConsumerGroupDescribeResponse:
    """Every group of the request has the same error."""
    del version
    return ConsumerGroupDescribeResponse(groups=[_refused(group_id, error) for group_id in request.group_ids])
