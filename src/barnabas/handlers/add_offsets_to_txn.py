"""AddOffsetsToTxn (25), versions 0-4: a transaction will commit offsets of a group.

    2   PRODUCER_FENCED      3   flexible      4   TRANSACTION_ABORTABLE

Behaviour: adds the partition of `__consumer_offsets` that holds the group, as AddPartitionsToTxn would. Producers of transaction
version 2 do without: TxnOffsetCommit adds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.coordinators.transaction.initialize import ProducerIdentity
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import CONSUMER_OFFSETS_TOPIC
from barnabas.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 25

_FENCED_FROM = 2


def handle(
    broker: BrokerServices, context: RequestContext, request: AddOffsetsToTxnRequest
) -> AddOffsetsToTxnResponse | asyncio.Future[AddOffsetsToTxnResponse]:
    """Adds the group's partition."""
    version = context.api_version
    partition = (
        CONSUMER_OFFSETS_TOPIC,
        broker.group_coordinator.runtime.partition_for(request.group_id),
    )

    def refuse(error: KafkaError) -> AddOffsetsToTxnResponse:
        broker.log_refusal(context, request.transactional_id, error)
        return error_response(request, version, error)

    return settle(
        lambda: broker.transaction_coordinator.add_partitions(
            request.transactional_id,
            ProducerIdentity(request.producer_id, request.producer_epoch),
            [partition],
            client_version=0,
        ),
        then=lambda _: AddOffsetsToTxnResponse(),
        refuse=refuse,
    )


def error_response(
    request: AddOffsetsToTxnRequest, version: int, error: KafkaError
) -> AddOffsetsToTxnResponse:
    """The refusal, as a client of this version knows it."""
    del request
    code = error.code
    if version < _FENCED_FROM and code is ErrorCode.PRODUCER_FENCED:
        code = ErrorCode.INVALID_PRODUCER_EPOCH
    return AddOffsetsToTxnResponse(error_code=code)
