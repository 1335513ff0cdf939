"""ConsumerGroupHeartbeat (68), versions 0-1: be a member of a consumer group whose assignment the broker computes (KIP-848).

Behaviour: a member says what changed, and hears its epoch and what to read. The answer leaves when what it says is committed. See
`coordinators.group.consumer.heartbeat`.

    0   as is       1   patterns of topics (KIP-848); the member makes up its own id (KIP-1082)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import codes
from barnabas.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 68


def handle(
    broker: BrokerServices, context: RequestContext, request: ConsumerGroupHeartbeatRequest
) -> ConsumerGroupHeartbeatResponse | asyncio.Future[ConsumerGroupHeartbeatResponse]:
    """Passes the heartbeat on to the group's coordinator."""
    version = context.api_version

    def refuse(error: KafkaError) -> ConsumerGroupHeartbeatResponse:
        broker.log_refusal(context, f"group {request.group_id}", error)
        return error_response(request, version, error)

    if not broker.group_coordinator.serves_consumer_groups:
        return refuse(KafkaError(ErrorCode.UNSUPPORTED_VERSION))
    return settle(
        lambda: broker.group_coordinator.consumer_heartbeat(
            request, version, context.client_id, context.connection.client_address[0]
        ),
        then=lambda response: response,
        refuse=refuse,
    )


def error_response(
    request: ConsumerGroupHeartbeatRequest, version: int, error: KafkaError
) -> ConsumerGroupHeartbeatResponse:
    """The request as a whole is refused."""
    del request, version
    code, message = codes(error)
    return ConsumerGroupHeartbeatResponse(error_code=code, error_message=message)
