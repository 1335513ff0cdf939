"""AddPartitionsToTxn (24), versions 0-5: partitions that a transaction will write to.

    2   PRODUCER_FENCED      3   flexible      4   several transactions, and only asking (brokers; KIP-890)
    5   TRANSACTION_ABORTABLE

Behaviour: all partitions of a transaction are added, or none: if one of them does not exist, the others are answered with
OPERATION_NOT_ATTEMPTED. Clients (up to version 3) may not name the brokers' own topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import combine, settle
from barnabas.coordinators.transaction.initialize import ProducerIdentity
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.identifiers import INTERNAL_TOPICS
from barnabas.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 24

_FENCED_FROM = 2
_BATCHED_FROM = 4

_Transaction = AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction
_Result = AddPartitionsToTxnResponse.AddPartitionsToTxnResult
_TopicResult = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
_PartitionResult = AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult


def handle(
    broker: BrokerServices, context: RequestContext, request: AddPartitionsToTxnRequest
) -> AddPartitionsToTxnResponse | asyncio.Future[AddPartitionsToTxnResponse]:
    """Adds the partitions of each transaction."""
    version = context.api_version
    return settle(
        lambda: combine([_handle(broker, context, each) for each in _transactions(request, version)]),
        then=lambda results: _shaped(results, version),
        refuse=lambda error: error_response(request, version, error),
    )


def _transactions(request: AddPartitionsToTxnRequest, version: int) -> list[_Transaction]:
    if version >= _BATCHED_FROM:
        return request.transactions
    return [
        _Transaction(
            transactional_id=request.v3_and_below_transactional_id,
            producer_id=request.v3_and_below_producer_id,
            producer_epoch=request.v3_and_below_producer_epoch,
            topics=request.v3_and_below_topics,
        )
    ]


def _handle(
    broker: BrokerServices, context: RequestContext, transaction: _Transaction
) -> _Result | asyncio.Future[_Result]:
    version = context.api_version
    producer = ProducerIdentity(transaction.producer_id, transaction.producer_epoch)
    partitions = [(topic.name, index) for topic in transaction.topics for index in topic.partitions]
    image = broker.image
    refusals = {}
    for topic, index in partitions:
        if version < _BATCHED_FROM and topic in INTERNAL_TOPICS:
            refusals[topic, index] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        elif image.partition(topic, index) is None:
            refusals[topic, index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if refusals:
        codes = {
            partition: refusals.get(partition, ErrorCode.OPERATION_NOT_ATTEMPTED) for partition in partitions
        }
        return _result(transaction, codes)
    coordinator = broker.transaction_coordinator

    def refuse(error: KafkaError) -> _Result:
        broker.log_refusal(context, transaction.transactional_id, error)
        return _result(transaction, dict.fromkeys(partitions, _known(error.code, version)))

    if transaction.verify_only:
        return settle(
            lambda: coordinator.verify_partitions(transaction.transactional_id, producer, partitions),
            then=lambda codes: _result(transaction, codes),
            refuse=refuse,
        )
    return settle(
        lambda: coordinator.add_partitions(
            transaction.transactional_id,
            producer,
            partitions,
            client_version=2 if version >= _BATCHED_FROM else 0,
        ),
        then=lambda _: _result(transaction, {}),
        refuse=refuse,
    )


def _known(code: ErrorCode, version: int) -> ErrorCode:
    if version < _FENCED_FROM and code is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return code


def _result(transaction: _Transaction, codes: Mapping[tuple[str, int], ErrorCode]) -> _Result:
    return _Result(
        transactional_id=transaction.transactional_id,
        topic_results=[
            _TopicResult(
                name=topic.name,
                results_by_partition=[
                    _PartitionResult(
                        partition_index=index,
                        partition_error_code=codes.get((topic.name, index), ErrorCode.NONE),
                    )
                    for index in topic.partitions
                ],
            )
            for topic in transaction.topics
        ],
    )


def _shaped(results: list[_Result], version: int) -> AddPartitionsToTxnResponse:
    if version >= _BATCHED_FROM:
        return AddPartitionsToTxnResponse(results_by_transaction=results)
    return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results[0].topic_results)


def error_response(
    request: AddPartitionsToTxnRequest, version: int, error: KafkaError
) -> AddPartitionsToTxnResponse:
    """Every partition of the request has the same error."""
    results = [
        _result(
            transaction,
            {
                (topic.name, index): _known(error.code, version)
                for topic in transaction.topics
                for index in topic.partitions
            },
        )
        for transaction in _transactions(request, version)
    ]
    return _shaped(results, version)
