"""JoinGroup (11), versions 0-9: become or stay a member of a classic group.

Behaviour: the answer waits until the members of the next generation are known; the leader is told who they are. What the
group makes of a request stands in `coordinators.group.join`.

    0   as is, the session timeout doubles as rebalance timeout    1   rebalance timeout (KIP-62)      2   throttle time
    4   a new member is given its id first, MEMBER_ID_REQUIRED (KIP-394)
    5   group instance ids: static members (KIP-345)               6   flexible                        7   protocol type in the answer (KIP-559)
    8   reason (KIP-800)                                           9   the leader may be told to skip the assignment (KIP-814)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.errors import KafkaError
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 11

_NULLABLE_PROTOCOL_FROM = 7


def handle(
    broker: BrokerServices, context: RequestContext, request: JoinGroupRequest
) -> JoinGroupResponse | asyncio.Future[JoinGroupResponse]:
    """Joins, and answers in the shape of the version."""
    version = context.api_version

    def refuse(error: KafkaError) -> JoinGroupResponse:
        broker.log_refusal(context, f"group {request.group_id}", error)
        return error_response(request, version, error)

    return settle(
        lambda: broker.group_coordinator.join_group(
            request, version, context.client_id, context.connection.client_address[0]
        ),
        then=lambda response: _shaped(response, version),
        refuse=refuse,
    )


def _shaped(response: JoinGroupResponse, version: int) -> JoinGroupResponse:
    if version < _NULLABLE_PROTOCOL_FROM:
        response.protocol_name = response.protocol_name or ""
    else:
        response.protocol_name = response.protocol_name or None
    return response


def error_response(request: JoinGroupRequest, version: int, error: KafkaError) -> JoinGroupResponse:
    """The request as a whole is refused."""
    response = JoinGroupResponse(member_id=request.member_id, error_code=error.code, protocol_name=None)
    return _shaped(response, version)
