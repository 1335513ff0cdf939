"""InitProducerId (22), versions 0-5: a producer id and epoch for idempotent producers.

    2   flexible                                  3   id and epoch that the producer has (KIP-360)
    4   PRODUCER_FENCED                           5   TRANSACTION_ABORTABLE

Behaviour: a producer without a transactional id gets a new id with epoch 0 every time, also when it names the id that it has:
what happened to its records under the old one is not known any more, and a new id cannot clash with it. Ids are unique
over restarts and over the whole cluster.

Deliberately not done yet: transactions. A transactional id is refused with UNSUPPORTED_VERSION, which clients do not try
again, rather than with COORDINATOR_NOT_AVAILABLE, which they try for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import after
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 22

_NONE = -1


def handle(
    broker: BrokerServices, context: RequestContext, request: InitProducerIdRequest
) -> InitProducerIdResponse | Awaitable[InitProducerIdResponse]:
    """Answers at once while ids are at hand."""
    error = _refusal(request)
    if error is not None:
        broker.log_refusal(context, request.transactional_id or "", error)
        return _refused(error)

    def answer(producer_id: int | KafkaError) -> InitProducerIdResponse:
        if isinstance(producer_id, KafkaError):
            broker.log_refusal(context, "", producer_id)
            # As Kafka while its broker has no block of ids: clients try again soon. A failed disk stays failed.
            is_final = producer_id.code is ErrorCode.KAFKA_STORAGE_ERROR
            return _refused(producer_id if is_final else KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS))
        return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)

    return after(broker, broker.controller.next_producer_id, answer)


def _refusal(request: InitProducerIdRequest) -> KafkaError | None:
    if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
        return KafkaError(
            ErrorCode.INVALID_REQUEST, "a producer has both an id and an epoch, or neither of them"
        )
    if request.transactional_id == "":
        return KafkaError(ErrorCode.INVALID_REQUEST, "a transactional id must not be empty")
    if request.transactional_id is not None:
        return KafkaError(ErrorCode.UNSUPPORTED_VERSION, "transactions are not supported yet")
    return None


def _refused(error: KafkaError) -> InitProducerIdResponse:
    return InitProducerIdResponse(error_code=error.code, producer_id=_NONE, producer_epoch=_NONE)
