"""OffsetForLeaderEpoch (23), versions 0-4: where a leader epoch ends, to find out where two logs part (KIP-101, KIP-320).

1   the epoch that the end offset belongs to      2   current leader epoch of the asker
3   replica id                                    4   flexible
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 23


def handle(
    broker: BrokerServices, context: RequestContext, request: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    """Looks each epoch up in the partition's leader epochs."""
    topics = []
    for topic in request.topics:
        answers = []
        for asked in topic.partitions:
            answer = OffsetForLeaderEpochResponse.EpochEndOffset(
                partition=asked.partition, leader_epoch=-1, end_offset=-1
            )
            try:
                partition = broker.replicas.leader(topic.topic, asked.partition, asked.current_leader_epoch)
                answer.leader_epoch, answer.end_offset = partition.end_offset_of_epoch(asked.leader_epoch)
            except KafkaError as error:
                broker.log_refusal(context, f"{topic.topic}-{asked.partition}", error)
                answer.error_code = error.code
            except StorageError as error:
                broker.log_refusal(context, f"{topic.topic}-{asked.partition}", error)
                answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR
            answers.append(answer)
        topics.append(
            OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(topic=topic.topic, partitions=answers)
        )
    return OffsetForLeaderEpochResponse(topics=topics)
