"""BrokerHeartbeat (63), versions 0-1: a broker tells the controller how it is doing (KIP-631). Between brokers only.

    1   log directories that have failed (KIP-858)

Behaviour: a fenced broker that has seen its own registration is unfenced; one that wants to stop hands over what it leads. Not
the sign of life that it is in Apache Kafka: that a broker is alive is known from where the metadata log lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.liveness import Heartbeat
from barnabas.errors import KafkaError
from barnabas.handlers.replies import after
from barnabas.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.controller.liveness import HeartbeatReply
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 63


def handle(
    broker: BrokerServices, _context: RequestContext, request: BrokerHeartbeatRequest
) -> Awaitable[BrokerHeartbeatResponse]:
    """Answers once what follows is in the log."""
    said = Heartbeat(
        broker_id=request.broker_id,
        broker_epoch=request.broker_epoch,
        metadata_offset=request.current_metadata_offset,
        want_fence=request.want_fence,
        want_shut_down=request.want_shut_down,
        offline_log_dirs=request.offline_log_dirs,
    )

    def answer(reply: HeartbeatReply | KafkaError) -> BrokerHeartbeatResponse:
        if isinstance(reply, KafkaError):
            return BrokerHeartbeatResponse(error_code=reply.code)
        return BrokerHeartbeatResponse(
            is_caught_up=reply.is_caught_up,
            is_fenced=reply.is_fenced,
            should_shut_down=reply.should_shut_down,
        )

    return after(broker, lambda: broker.controller.heartbeat(said), answer)
