"""Heartbeat (12), versions 0-4: a member of a classic group lives, and learns of a rebalance.

Behaviour: answered at once and from memory. While the coordinator is still loading every member is taken for alive, as in
Kafka. See `coordinators.group.heartbeat`.

    1   throttle time      3   group instance id (KIP-345)      4   flexible
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 12

_ROUTINE = (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS)


def handle(broker: BrokerServices, context: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse:
    """Begins the member's session anew."""
    try:
        code = broker.group_coordinator.heartbeat(
            request.group_id, request.member_id, request.group_instance_id, request.generation_id
        )
    except KafkaError as error:
        broker.log_refusal(context, f"group {request.group_id}", error)
        return error_response(request, context.api_version, error)
    if code not in _ROUTINE:
        refusal = KafkaError(code, f"member {request.member_id} generation {request.generation_id}")
        broker.log_refusal(context, f"group {request.group_id}", refusal)
    return HeartbeatResponse(error_code=code)


def error_response(request: HeartbeatRequest, version: int, error: KafkaError) -> HeartbeatResponse:
    """The heartbeat is refused."""
    del request, version
    return HeartbeatResponse(error_code=error.code)
