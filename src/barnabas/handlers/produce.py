"""Produce (0), versions 0-13: append record batches to partitions.

Behaviour: each partition's batch is checked and appended in arrival order, before anything is waited for; then the answer waits for
what its acks promise (`Partition.wait_committed`). acks=0 has no answer; when such a request fails, the connection is closed, as
Kafka does, because the client has no other way to learn of it.

    3   record batches of magic 2 (KIP-98); below 3 only old formats fit, which are refused as Kafka 4 does
    4   KAFKA_STORAGE_ERROR                         5   log start offset in the answer
    7   zstd (KIP-110)                              8   record errors and an error message (KIP-467)
    9   flexible                                    10  current leader and its endpoint in the answer (KIP-951)
    11  ABORTABLE_TRANSACTION (KIP-890)             12  implicit transaction partitions (KIP-890)
    13  topic ids (KIP-516)

Transactions: the coordinator is asked before the first batch in a partition (`handlers.transactional_produce`).

Deliberately not done: conversion from the old formats.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import CloseConnection, ErrorCode, KafkaError, StorageError
from barnabas.handlers import transactional_produce
from barnabas.handlers.current_leaders import current_leader, nodes_of
from barnabas.metadata.identifiers import INTERNAL_TOPICS
from barnabas.replication.recompression import NeedsTimeError
from barnabas.wire.messages.produce import ProduceRequest, ProduceResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.handlers.transactional_produce import VerifiedPartitions
    from barnabas.log.partition_log import AppendResult
    from barnabas.replication.partition import Partition

__all__ = ["API_KEY", "Acknowledgement", "acknowledgement_timeout_ms", "handle", "refuse_batch"]

API_KEY = 0

_TopicResponse = ProduceResponse.TopicProduceResponse
_PartitionResponse = ProduceResponse.PartitionProduceResponse

_LEADERS_FROM = 10
_DISK_TIMEOUT_MS_MIN = 1000

# Kafka's tools that write internal topics give themselves this name (AdminUtils.ADMIN_CLIENT_ID).
_ADMIN_CLIENT_ID = "__admin_client"

# The only codes whose message Kafka puts into the answer.
_TOLD = frozenset((ErrorCode.INVALID_RECORD, ErrorCode.INVALID_TIMESTAMP))

_Wait = tuple["asyncio.Future[None]", ProduceResponse.PartitionProduceResponse]


class _Packing(NamedTuple):
    """A batch that is packed anew and appended then, and the answer that is filled in."""

    appending: asyncio.Future[AppendResult]
    partition: Partition
    size_bytes: int
    response: ProduceResponse.PartitionProduceResponse


def handle(
    broker: BrokerServices,
    context: RequestContext,
    request: ProduceRequest,
    verified: VerifiedPartitions | None = None,
) -> ProduceResponse | Awaitable[ProduceResponse | None] | None:
    """Appends, and answers once the acks are earned.

    Args:
        broker: The broker.
        context: Where the request comes from.
        request: The request.
        verified: What the coordinator said of the partitions of a transaction; it is asked first.

    Raises:
        CloseConnection: acks=0 and something failed.
    """
    if request.transactional_id is not None and verified is None:
        return transactional_produce.handle(broker, context, request)
    acks = request.acks
    version = context.api_version
    replicas = broker.replicas
    now_ms = broker.clock.now_ms()
    waits: list[_Wait] = []
    packing: list[_Packing] = []
    responses = []
    failed: KafkaError | None = None
    for topic in request.topic_data:
        partitions = []
        for data in topic.partition_data:
            partition = None
            try:
                if version >= 13:
                    partition = replicas.leader_by_id(topic.topic_id, data.index)
                else:
                    partition = replicas.leader(topic.name, data.index)
                metrics = partition.metrics
                metrics.produce_requests.value += 1
                if acks not in (-1, 1, 0):
                    raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS)
                if partition.topic in INTERNAL_TOPICS and context.client_id != _ADMIN_CLIENT_ID:
                    raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
                records = data.records
                if not isinstance(records, memoryview):
                    raise KafkaError(ErrorCode.INVALID_RECORD, "the partition has no records")
                appended = partition.append(
                    records,
                    acks,
                    now_ms=now_ms,
                    produce_version=version,
                    transactional=verified is not None,
                    guard=None if verified is None else verified.guard(partition),
                )
                if not appended.duplicate:
                    metrics.messages_in.value += appended.last_offset - appended.first_offset + 1
                    metrics.bytes_in.value += len(records)
                response = _PartitionResponse(
                    index=data.index,
                    error_code=0,
                    base_offset=appended.first_offset,
                    log_append_time_ms=appended.log_append_time_ms,
                    log_start_offset=appended.log_start_offset,
                )
                if acks != 0:
                    wait = partition.wait_committed(appended.last_offset, acks)
                    if wait is not None:
                        waits.append((wait, response))
            except NeedsTimeError:
                assert partition is not None
                assert isinstance(data.records, memoryview)
                response = _PartitionResponse(index=data.index)
                appending = partition.append_later(
                    data.records,
                    acks,
                    now_ms=now_ms,
                    produce_version=version,
                    transactional=verified is not None,
                    guard=None if verified is None else verified.guard(partition),
                    is_gone=lambda: context.connection.is_closed,
                )
                packing.append(_Packing(appending, partition, len(data.records), response))
            except KafkaError as error:
                failed = error
                response = _refused(broker, context, topic, data, partition, error)
            except StorageError as error:
                failed = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
                response = _refused(broker, context, topic, data, partition, failed)
            partitions.append(response)
        responses.append(
            _TopicResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=partitions)
        )
    answer = ProduceResponse(responses=responses)
    if packing:
        # Their records count as bytes that wait for the client until they are appended.
        context.connection.held_bytes += sum(each.size_bytes for each in packing)
        return broker.loop.create_task(
            _answer_when_packed(broker, context, request, answer, waits, packing, failed),
            name="Produce of batches that are packed anew",
        )
    return _answer(broker, context, request, answer, waits, failed)


def _answer(
    broker: BrokerServices,
    context: RequestContext,
    request: ProduceRequest,
    answer: ProduceResponse,
    waits: list[_Wait],
    failed: KafkaError | None,
) -> ProduceResponse | asyncio.Future[ProduceResponse] | None:
    """All is appended that is not refused."""
    if request.acks == 0:
        if failed is not None:
            raise CloseConnection(f"a produce request with acks=0 failed: {failed}")
        return None
    if failed is not None and context.api_version >= _LEADERS_FROM:
        _tell_leaders(broker, context, answer)
    if not waits:
        return answer
    return Acknowledgement(
        broker, answer, waits, acknowledgement_timeout_ms(broker, request.timeout_ms)
    ).future


async def _answer_when_packed(
    broker: BrokerServices,
    context: RequestContext,
    request: ProduceRequest,
    answer: ProduceResponse,
    waits: list[_Wait],
    packing: list[_Packing],
    failed: KafkaError | None,
) -> ProduceResponse | None:
    """The client's time begins when all is appended, as in Kafka."""
    await asyncio.wait([each.appending for each in packing])
    context.connection.held_bytes -= sum(each.size_bytes for each in packing)
    for each in packing:
        response, metrics = each.response, each.partition.metrics
        try:
            appended = each.appending.result()
        except (KafkaError, StorageError) as error:
            failed = (
                error
                if isinstance(error, KafkaError)
                else KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
            )
            metrics.produce_failed(failed, each.size_bytes)
            response.error_message = failed.message if failed.code in _TOLD else None
            _fail(response, failed.code)
            continue
        if not appended.duplicate:
            metrics.messages_in.value += appended.last_offset - appended.first_offset + 1
            metrics.bytes_in.value += each.size_bytes
        response.base_offset = appended.first_offset
        response.log_append_time_ms = appended.log_append_time_ms
        response.log_start_offset = appended.log_start_offset
        if request.acks != 0:
            wait = each.partition.wait_committed(appended.last_offset, request.acks)
            if wait is not None:
                waits.append((wait, response))
    outcome = _answer(broker, context, request, answer, waits, failed)
    return await outcome if isinstance(outcome, asyncio.Future) else outcome


def _tell_leaders(broker: BrokerServices, context: RequestContext, answer: ProduceResponse) -> None:
    """Where the partitions are that are led by others (KIP-951)."""
    leaders = []
    for topic in answer.responses:
        for partition in topic.partition_responses:
            if partition.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER:
                leader = current_leader(broker, topic.name, topic.topic_id, partition.index)
                partition.current_leader = ProduceResponse.LeaderIdAndEpoch(
                    leader_id=leader.leader_id, leader_epoch=leader.leader_epoch
                )
                leaders.append(leader.leader_id)
    answer.node_endpoints = [
        ProduceResponse.NodeEndpoint(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack)
        for node in nodes_of(broker, context, leaders)
    ]


def acknowledgement_timeout_ms(broker: BrokerServices, timeout_ms: int) -> int:
    """How long an acknowledgement is waited for by a client that says `timeout_ms`.

    That is for other replicas: without any, Apache Kafka acknowledges whatever the time-out is, also 0, and also when it syncs.
    """
    return max(timeout_ms, 0 if broker.broker_listener is not None else _DISK_TIMEOUT_MS_MIN)


class Acknowledgement:
    """Counts down what an answer waits for; at the time-out, what is still missing gets REQUEST_TIMED_OUT."""

    __slots__ = ("_answer", "_missing", "_waiting", "_waits", "future")

    def __init__(
        self,
        broker: BrokerServices,
        answer: ProduceResponse,
        waits: list[_Wait],
        timeout_ms: int,
    ) -> None:
        self._answer = answer
        self._waits = waits
        self._missing = len(waits)
        self.future: asyncio.Future[ProduceResponse] = broker.loop.create_future()
        for wait, _ in waits:
            wait.add_done_callback(self._one_done)
        self._waiting = broker.waiting
        self._waiting.produce_count += 1
        self._waiting.deadlines.add(timeout_ms, self.future, self._expire)

    def _one_done(self, wait: asyncio.Future[None]) -> None:
        if not wait.cancelled():
            wait.exception()  # looked at, also when it comes after the time-out
        self._missing -= 1
        if self._missing == 0 and not self.future.done():
            self._finish()

    def _expire(self) -> None:
        self._finish()
        for wait, _ in self._waits:
            # The commit may not come for hours, and is not to remember all who have waited for it.
            wait.cancel()

    def _finish(self) -> None:
        for wait, response in self._waits:
            if not wait.done():
                _fail(response, ErrorCode.REQUEST_TIMED_OUT)
            elif wait.cancelled() or wait.exception() is not None:
                error = None if wait.cancelled() else wait.exception()
                _fail(
                    response, error.code if isinstance(error, KafkaError) else ErrorCode.KAFKA_STORAGE_ERROR
                )
        self._waiting.produce_count -= 1
        self.future.set_result(self._answer)


def _fail(response: ProduceResponse.PartitionProduceResponse, code: ErrorCode) -> None:
    response.error_code = code
    response.base_offset = -1
    response.log_append_time_ms = -1
    response.log_start_offset = -1


def refuse_batch(
    broker: BrokerServices,
    context: RequestContext,
    topic: ProduceRequest.TopicProduceData,
    partition: Partition,
    error: StorageError,
) -> ProduceResponse:
    """The answer to a request of one batch that the disk did not take."""
    failed = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
    response = _refused(broker, context, topic, topic.partition_data[0], partition, failed)
    return ProduceResponse(
        responses=[_TopicResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=[response])]
    )


def _refused(
    broker: BrokerServices,
    context: RequestContext,
    topic: ProduceRequest.TopicProduceData,
    data: ProduceRequest.PartitionProduceData,
    partition: Partition | None,
    error: KafkaError,
) -> ProduceResponse.PartitionProduceResponse:
    broker.log_refusal(context, f"{topic.name or topic.topic_id.hex()}-{data.index}", error)
    if partition is not None:
        records = data.records
        partition.metrics.produce_failed(error, len(records) if isinstance(records, memoryview) else 0)
    response = _PartitionResponse(
        index=data.index,
        error_code=error.code,
        base_offset=-1,
        log_start_offset=error.log_start_offset,
        error_message=error.message
        if error.code in _TOLD or isinstance(error, transactional_produce.UnverifiedError)
        else None,
    )
    if error.record_errors:
        response.record_errors = [
            ProduceResponse.BatchIndexAndErrorMessage(
                batch_index=batch_index, batch_index_error_message=message
            )
            for batch_index, message in error.record_errors
        ]
    return response
