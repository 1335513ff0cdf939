"""EndTxn (26), versions 0-5: commit or abort a transaction.

    2   PRODUCER_FENCED      3   flexible      4   TRANSACTION_ABORTABLE
    5   the epoch that the producer goes on with (transaction version 2, KIP-890)

Behaviour: answered when the decision is durable; the markers follow, also after a crash. See `coordinators.transaction.end`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.coordinators.transaction.initialize import ProducerIdentity
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.end_txn import EndTxnRequest, EndTxnResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 26

_FENCED_FROM = 2
_EPOCH_BUMP_FROM = 5


def handle(
    broker: BrokerServices, context: RequestContext, request: EndTxnRequest
) -> EndTxnResponse | asyncio.Future[EndTxnResponse]:
    """Decides, and answers when that can not be lost any more."""
    version = context.api_version

    def refuse(error: KafkaError) -> EndTxnResponse:
        broker.log_refusal(context, request.transactional_id, error)
        return error_response(request, version, error)

    return settle(
        lambda: broker.transaction_coordinator.end_transaction(
            request.transactional_id,
            ProducerIdentity(request.producer_id, request.producer_epoch),
            committed=request.committed,
            client_version=2 if version >= _EPOCH_BUMP_FROM else 0,
        ),
        then=lambda producer: EndTxnResponse(producer_id=producer.producer_id, producer_epoch=producer.epoch),
        refuse=refuse,
    )


def error_response(request: EndTxnRequest, version: int, error: KafkaError) -> EndTxnResponse:
    """The refusal, as a client of this version knows it."""
    del request
    code = error.code
    if version < _FENCED_FROM and code is ErrorCode.PRODUCER_FENCED:
        code = ErrorCode.INVALID_PRODUCER_EPOCH
    return EndTxnResponse(error_code=code)
