"""GetTelemetrySubscriptions (71), version 0: what a client is asked to measure (KIP-714).

Behaviour: a client without an id gets one. Whoever asks again before the interval is over gets THROTTLING_QUOTA_EXCEEDED, unless the
subscriptions have changed. Announced while `barnabas.metrics.port` is set, and served at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import KafkaError
from barnabas.handlers.client_telemetry import ACCEPTED_COMPRESSION
from barnabas.wire.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 71


def handle(
    broker: BrokerServices, context: RequestContext, request: GetTelemetrySubscriptionsRequest
) -> GetTelemetrySubscriptionsResponse:
    """Answers at once."""
    try:
        wanted = broker.client_telemetry.subscribe(
            bytes(request.client_instance_id), context.client_id, context.connection
        )
    except KafkaError as error:
        broker.log_refusal(context, "telemetry", error)
        return GetTelemetrySubscriptionsResponse(error_code=error.code)
    return GetTelemetrySubscriptionsResponse(
        client_instance_id=wanted.client_instance_id,
        subscription_id=wanted.subscription_id,
        accepted_compression_types=list(ACCEPTED_COMPRESSION),
        push_interval_ms=wanted.interval_ms,
        telemetry_max_bytes=wanted.max_bytes,
        delta_temporality=True,
        requested_metrics=wanted.metrics,
    )
