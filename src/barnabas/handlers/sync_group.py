"""SyncGroup (14), versions 0-5: hand in the assignment as leader of a classic group, and get one's own.

Behaviour: the answer waits until the leader's assignment is committed. See `coordinators.group.sync`.

    1   throttle time      3   group instance id (KIP-345)      4   flexible
    5   protocol type and name, both required, must be those of the group (KIP-559)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 14

_PROTOCOL_REQUIRED_FROM = 5


def handle(
    broker: BrokerServices, context: RequestContext, request: SyncGroupRequest
) -> SyncGroupResponse | asyncio.Future[SyncGroupResponse]:
    """Syncs, unless the request lacks what its version requires."""
    version = context.api_version

    def sync() -> SyncGroupResponse | asyncio.Future[SyncGroupResponse]:
        if version >= _PROTOCOL_REQUIRED_FROM and (
            request.protocol_type is None or request.protocol_name is None
        ):
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "protocol type and name are missing")
        return broker.group_coordinator.sync_group(request)

    def refuse(error: KafkaError) -> SyncGroupResponse:
        broker.log_refusal(context, f"group {request.group_id}", error)
        return error_response(request, version, error)

    return settle(sync, then=lambda response: response, refuse=refuse)


def error_response(request: SyncGroupRequest, version: int, error: KafkaError) -> SyncGroupResponse:
    """The request as a whole is refused."""
    del request, version
    return SyncGroupResponse(error_code=error.code)
