"""LeaveGroup (13), versions 0-5: members leave a classic group, or are removed from it by an administrator.

Behaviour: see `coordinators.group.leave`. Before version 3 a request has one member and the answer its error.

    1   throttle time      3   several members, by member id or group instance id (KIP-345)
    4   flexible           5   a reason for each (KIP-800)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.errors import KafkaError
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 13

_SEVERAL_MEMBERS_FROM = 3


def handle(
    broker: BrokerServices, context: RequestContext, request: LeaveGroupRequest
) -> LeaveGroupResponse | asyncio.Future[LeaveGroupResponse]:
    """Leaves, and answers in the shape of the version."""
    version = context.api_version
    if version < _SEVERAL_MEMBERS_FROM:
        members = [LeaveGroupRequest.MemberIdentity(member_id=request.member_id)]
    else:
        members = request.members

    def refuse(error: KafkaError) -> LeaveGroupResponse:
        broker.log_refusal(context, f"group {request.group_id}", error)
        return error_response(request, version, error)

    return settle(
        lambda: broker.group_coordinator.leave_group(request.group_id, members),
        then=lambda response: _shaped(response, version),
        refuse=refuse,
    )


def _shaped(response: LeaveGroupResponse, version: int) -> LeaveGroupResponse:
    if version >= _SEVERAL_MEMBERS_FROM:
        return response
    return LeaveGroupResponse(error_code=response.members[0].error_code)


def error_response(request: LeaveGroupRequest, version: int, error: KafkaError) -> LeaveGroupResponse:
    """The request as a whole is refused."""
    del request, version
    return LeaveGroupResponse(error_code=error.code)
