"""DeleteRecords (21), versions 0-2: make the records before an offset unreadable (KIP-107).

    2   flexible

Behaviour: -1 stands for the high watermark. The log start offset moves at once; segments that lie wholly before it are
deleted in the background. The answer has the partition's low watermark, which is the leader's alone while there are no
followers to wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.metadata.identifiers import INTERNAL_TOPICS
from barnabas.wire.messages.delete_records import DeleteRecordsRequest, DeleteRecordsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 21


def handle(
    broker: BrokerServices, context: RequestContext, request: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    """Answers at once."""
    response = DeleteRecordsResponse()
    for topic in request.topics:
        result = DeleteRecordsResponse.DeleteRecordsTopicResult(name=topic.name)
        for partition in topic.partitions:
            low_watermark, error = -1, None
            try:
                low_watermark = _delete(broker, topic.name, partition.partition_index, partition.offset)
            except KafkaError as refusal:
                error = refusal
            except StorageError as failure:
                error = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(failure))
            if error is not None:
                broker.log_refusal(context, f"{topic.name}-{partition.partition_index}", error)
            result.partitions.append(
                DeleteRecordsResponse.DeleteRecordsPartitionResult(
                    partition_index=partition.partition_index,
                    low_watermark=low_watermark,
                    error_code=0 if error is None else error.code,
                )
            )
        response.topics.append(result)
    return response


def _delete(broker: BrokerServices, topic: str, partition: int, offset: int) -> int:
    if broker.image.partition(topic, partition) is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if topic in INTERNAL_TOPICS:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot delete records of internal topic {topic}"
        )
    return broker.replicas.leader(topic, partition).delete_records(offset)
