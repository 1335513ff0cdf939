"""DeleteRecords (21), versions 0-2: make the records before an offset unreadable (KIP-107).

    2   flexible

Behaviour: -1 stands for the high watermark. The log start offset moves at once; segments that lie wholly before it are
deleted in the background. The answer has the partition's low watermark: it waits until every replica that is alive has moved its log
start offset, too, or the request's time is up.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.metadata.identifiers import INTERNAL_TOPICS
from barnabas.wire.messages.delete_records import DeleteRecordsRequest, DeleteRecordsResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.replication.leading import Leading
    from barnabas.replication.partition import Partition

__all__ = ["API_KEY", "handle"]

API_KEY = 21


def handle(
    broker: BrokerServices, context: RequestContext, request: DeleteRecordsRequest
) -> DeleteRecordsResponse | asyncio.Future[DeleteRecordsResponse]:
    """Answers at once, or when all replicas that are alive have followed."""
    response = DeleteRecordsResponse()
    waiting: list[_Waiting] = []
    for topic in request.topics:
        result = DeleteRecordsResponse.DeleteRecordsTopicResult(name=topic.name)
        for asked in topic.partitions:
            answer = DeleteRecordsResponse.DeleteRecordsPartitionResult(
                partition_index=asked.partition_index, low_watermark=-1
            )
            result.partitions.append(answer)
            try:
                partition = _delete(broker, topic.name, asked.partition_index, asked.offset)
                answer.low_watermark = partition.log_start_offset
                if partition.leading is not None:
                    waiting.append(_Waiting(partition.leading, partition.log_start_offset, answer))
            except KafkaError as error:
                _refuse(broker, context, topic.name, answer, error)
            except StorageError as error:
                refusal = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
                _refuse(broker, context, topic.name, answer, refusal)
        response.topics.append(result)
    return _when_followed(broker, waiting, response, request.timeout_ms) if waiting else response


class _Waiting(NamedTuple):
    leading: Leading
    offset: int
    answer: DeleteRecordsResponse.DeleteRecordsPartitionResult


def _when_followed(
    broker: BrokerServices, waiting: list[_Waiting], response: DeleteRecordsResponse, timeout_ms: int
) -> DeleteRecordsResponse | asyncio.Future[DeleteRecordsResponse]:
    """The answer once the followers have deleted, too; REQUEST_TIMED_OUT for the partitions where they have not in time."""
    done: asyncio.Future[DeleteRecordsResponse] = broker.loop.create_future()
    missing: dict[int, _Waiting] = {}

    def settle(number: int, error: KafkaError | StorageError | None) -> None:
        entry = missing.pop(number, None)
        if entry is None:
            return
        _conclude(entry, error)
        if not missing and not done.done():
            done.set_result(response)

    for number, entry in enumerate(waiting):
        missing[number] = entry
        if not entry.leading.call_when_deleted(entry.offset, functools.partial(settle, number), done.done):
            del missing[number]
            _conclude(entry, None)
    if not missing:
        return response

    def expire() -> None:
        for number in list(missing):
            settle(number, KafkaError(ErrorCode.REQUEST_TIMED_OUT))

    broker.waiting.deadlines.add(max(timeout_ms, 0), done, expire)
    return done


def _conclude(entry: _Waiting, error: KafkaError | StorageError | None) -> None:
    if error is None:
        entry.answer.low_watermark = entry.leading.low_watermark
    else:
        entry.answer.low_watermark = -1
        entry.answer.error_code = (
            error.code if isinstance(error, KafkaError) else ErrorCode.KAFKA_STORAGE_ERROR
        )


def _refuse(
    broker: BrokerServices,
    context: RequestContext,
    topic: str,
    answer: DeleteRecordsResponse.DeleteRecordsPartitionResult,
    error: KafkaError,
) -> None:
    broker.log_refusal(context, f"{topic}-{answer.partition_index}", error)
    answer.error_code = error.code


def _delete(broker: BrokerServices, topic: str, index: int, offset: int) -> Partition:
    if broker.image.partition(topic, index) is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if topic in INTERNAL_TOPICS:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot delete records of internal topic {topic}"
        )
    partition = broker.replicas.leader(topic, index)
    partition.delete_records(offset)
    return partition
