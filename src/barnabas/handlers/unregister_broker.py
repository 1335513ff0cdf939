"""UnregisterBroker (64), version 0: forget a broker that will not come back (KIP-631).

Behaviour: unlike with Kafka a broker that serves cannot be unregistered (INVALID_REQUEST): it would go on running, and serve
nobody until its next start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.handlers.replies import after, codes
from barnabas.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.errors import KafkaError
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 64


def handle(
    broker: BrokerServices, context: RequestContext, request: UnregisterBrokerRequest
) -> Awaitable[UnregisterBrokerResponse]:
    """Answers once the broker is forgotten."""

    def answer(error: KafkaError | None) -> UnregisterBrokerResponse:
        if error is not None:
            broker.log_refusal(context, f"broker {request.broker_id}", error)
        code, message = codes(error)
        return UnregisterBrokerResponse(error_code=code, error_message=message or "")

    return after(broker, lambda: broker.controller.unregister_broker(request.broker_id), answer)
