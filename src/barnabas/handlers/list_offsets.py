"""ListOffsets (2), versions 0-11: offsets by timestamp, or of a place in the log.

    0   a list of segment offsets before a timestamp      1   one offset and its timestamp (KIP-79)
    2   isolation level (KIP-98)                          4   leader epochs (KIP-320)
    6   flexible                                          7   -3, the record with the greatest timestamp (KIP-734)
    8   -4, the earliest offset on this disk (KIP-405)    9   -5, the last tiered offset (KIP-1005)
    10  time-out for remote storage (KIP-1075)            11  -6, the earliest offset not yet tiered (KIP-1023)

Behaviour: an empty partition answers at once. Nothing is tiered, so -5 and -6 find nothing. A search by timestamp that has to read data
does so within the segment that the time index names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.wire.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 2

_CONSUMER_REPLICA_ID = -1
_DEBUGGING_REPLICA_ID = -2

# The version from on which each negative "timestamp" may be asked for.
_SINCE_VERSION = {-1: 0, -2: 0, -3: 7, -4: 8, -5: 9, -6: 11}


def handle(
    broker: BrokerServices, context: RequestContext, request: ListOffsetsRequest
) -> ListOffsetsResponse:
    """Looks each partition up."""
    seen: set[tuple[str, int]] = set()
    twice: set[tuple[str, int]] = set()
    for topic in request.topics:
        for asked in topic.partitions:
            key = (topic.name, asked.partition_index)
            (twice if key in seen else seen).add(key)
    topics = []
    for topic in request.topics:
        answers = {}
        for asked in topic.partitions:
            answer = ListOffsetsResponse.ListOffsetsPartitionResponse(partition_index=asked.partition_index)
            try:
                if (topic.name, asked.partition_index) in twice:
                    raise KafkaError(ErrorCode.INVALID_REQUEST, "the partition is asked for twice")
                _look_up(broker, context, request, topic.name, asked, answer)
            except KafkaError as error:
                broker.log_refusal(context, f"{topic.name}-{asked.partition_index}", error)
                answer.error_code = error.code
            except StorageError as error:
                broker.log_refusal(context, f"{topic.name}-{asked.partition_index}", error)
                answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR
            answers[asked.partition_index] = answer
        topics.append(
            ListOffsetsResponse.ListOffsetsTopicResponse(name=topic.name, partitions=list(answers.values()))
        )
    return ListOffsetsResponse(topics=topics)


def _look_up(
    broker: BrokerServices,
    context: RequestContext,
    request: ListOffsetsRequest,
    topic: str,
    asked: ListOffsetsRequest.ListOffsetsPartition,
    answer: ListOffsetsResponse.ListOffsetsPartitionResponse,
) -> None:
    version = context.api_version
    timestamp_ms = asked.timestamp
    partition = broker.replicas.leader(topic, asked.partition_index, asked.current_leader_epoch)
    if version == 0:
        answer.old_style_offsets = partition.offsets_before(timestamp_ms, asked.max_num_offsets)
        return
    if timestamp_ms < 0 and _SINCE_VERSION.get(timestamp_ms, 2**15) > version:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_VERSION, f"timestamp {timestamp_ms} means nothing in version {version}"
        )
    isolation_level = request.isolation_level if request.replica_id == _CONSUMER_REPLICA_ID else None
    found = partition.list_offset(timestamp_ms, isolation_level)
    answer.offset = found.offset
    answer.timestamp = found.timestamp_ms
    if version >= 4:
        answer.leader_epoch = found.leader_epoch
