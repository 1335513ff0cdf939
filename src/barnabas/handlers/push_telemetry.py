"""PushTelemetry (72), version 0: what a client has measured (KIP-714).

Behaviour: numbers are shown among the broker's own metrics until the client is silent for a while; metrics that cannot be read get
INVALID_RECORD. Announced while `barnabas.metrics.port` is set; without it whatever is pushed is dropped.

Deliberately not done: Kafka's plugins (Java classes), buckets of histograms.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from barnabas.errors import KafkaError
from barnabas.wire.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 72

_POINTS_PER_TURN = 500


def handle(
    broker: BrokerServices, context: RequestContext, request: PushTelemetryRequest
) -> PushTelemetryResponse | Awaitable[PushTelemetryResponse]:
    """Answers once the numbers are kept."""
    telemetry = broker.client_telemetry
    client_instance_id, metrics = bytes(request.client_instance_id), request.metrics
    try:
        telemetry.check_push(
            client_instance_id,
            context.client_id,
            context.connection,
            subscription_id=request.subscription_id,
            compression=request.compression_type,
            size_bytes=len(metrics),
            is_terminating=request.terminating,
        )
    except KafkaError as error:
        broker.log_refusal(context, "telemetry", error)
        return PushTelemetryResponse(error_code=error.code)
    if not metrics:
        return PushTelemetryResponse()
    return _keep(broker, context, client_instance_id, request.compression_type, bytes(metrics))


async def _keep(
    broker: BrokerServices,
    context: RequestContext,
    client_instance_id: bytes,
    compression: int,
    metrics: bytes,
) -> PushTelemetryResponse:
    telemetry = broker.client_telemetry
    try:
        # A megabyte of numbers takes a while, and may be sixteen when it is unpacked: one push at a time, and the loop goes on.
        points = await broker.loop.run_in_executor(telemetry.decoding, telemetry.decode, compression, metrics)
    except KafkaError as error:
        telemetry.errors += 1
        broker.log_refusal(context, "telemetry", error)
        return PushTelemetryResponse(error_code=error.code)
    for start in range(0, len(points) or 1, _POINTS_PER_TURN):
        telemetry.record(client_instance_id, points[start : start + _POINTS_PER_TURN])
        await asyncio.sleep(0)
    return PushTelemetryResponse()
