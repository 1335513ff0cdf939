"""AllocateProducerIds (67), version 0: a broker gets a block of producer ids from the controller (KIP-730). Between brokers only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import KafkaError
from barnabas.handlers.replies import after
from barnabas.wire.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.controller.producer_ids import ProducerIdBlock
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 67


def handle(
    broker: BrokerServices, _context: RequestContext, request: AllocateProducerIdsRequest
) -> Awaitable[AllocateProducerIdsResponse]:
    """Answers once nobody else can get these ids."""

    def answer(block: ProducerIdBlock | KafkaError) -> AllocateProducerIdsResponse:
        if isinstance(block, KafkaError):
            return AllocateProducerIdsResponse(error_code=block.code)
        return AllocateProducerIdsResponse(
            producer_id_start=block.first, producer_id_len=block.end - block.first
        )

    return after(
        broker,
        lambda: broker.controller.allocate_producer_ids(request.broker_id, request.broker_epoch),
        answer,
    )
