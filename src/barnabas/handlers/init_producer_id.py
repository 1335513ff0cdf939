"""InitProducerId (22), versions 0-5: a producer id and epoch, for idempotent producers and for transactional ids.

    2   flexible                                  3   id and epoch that the producer has (KIP-360)
    4   PRODUCER_FENCED                           5   TRANSACTION_ABORTABLE

Behaviour: a producer without a transactional id gets a new id with epoch 0 every time, also when it names the id that it has:
what happened to its records under the old one is not known any more, and a new id cannot clash with it. Ids are unique
over restarts and over the whole cluster. A producer with a transactional id gets the id's producer id with an epoch of its own, which
fences whoever had it before; see `coordinators.transaction.initialize`.

Deliberately not done: version 6 (two-phase commit, KIP-939), which Kafka 4.3 does not announce either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.coordinators.transaction.initialize import ProducerIdentity
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import after
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 22

_NONE = -1
_FENCED_FROM = 4


def handle(
    broker: BrokerServices, context: RequestContext, request: InitProducerIdRequest
) -> InitProducerIdResponse | Awaitable[InitProducerIdResponse]:
    """Answers at once while ids are at hand and nothing has to be written."""
    if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
        error = KafkaError(
            ErrorCode.INVALID_REQUEST, "a producer has both an id and an epoch, or neither of them"
        )
        broker.log_refusal(context, request.transactional_id or "", error)
        return _refused(error.code)
    if request.transactional_id is None:
        return _idempotent(broker, context)
    transactional_id = request.transactional_id
    expected = None
    if request.producer_id != _NONE:
        expected = ProducerIdentity(request.producer_id, request.producer_epoch)

    def refuse(error: KafkaError) -> InitProducerIdResponse:
        broker.log_refusal(context, transactional_id, error)
        code = error.code
        if context.api_version < _FENCED_FROM and code is ErrorCode.PRODUCER_FENCED:
            code = ErrorCode.INVALID_PRODUCER_EPOCH
        return _refused(code)

    return settle(
        lambda: broker.transaction_coordinator.init_producer_id(
            transactional_id, request.transaction_timeout_ms, expected
        ),
        then=lambda given: InitProducerIdResponse(producer_id=given.producer_id, producer_epoch=given.epoch),
        refuse=refuse,
    )


def _idempotent(broker: BrokerServices, context: RequestContext) -> Awaitable[InitProducerIdResponse]:
    def answer(producer_id: int | KafkaError) -> InitProducerIdResponse:
        if isinstance(producer_id, KafkaError):
            broker.log_refusal(context, "", producer_id)
            # As Kafka while its broker has no block of ids: clients try again soon. A failed disk stays failed.
            is_final = producer_id.code is ErrorCode.KAFKA_STORAGE_ERROR
            return _refused(producer_id.code if is_final else ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)

    return after(broker, broker.controller.next_producer_id, answer)


def _refused(code: ErrorCode) -> InitProducerIdResponse:
    return InitProducerIdResponse(error_code=code, producer_id=_NONE, producer_epoch=_NONE)
