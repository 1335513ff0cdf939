"""AssignReplicasToDirs (73), version 0: a broker says in which log directories its replicas lie (KIP-858). Between brokers only.

Behaviour: what is gone meanwhile is named in the answer, all else is noted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.liveness import check_broker_epoch
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import after
from barnabas.wire.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage

__all__ = ["API_KEY", "handle"]

API_KEY = 73

_Directory = AssignReplicasToDirsResponse.DirectoryData
_Topic = AssignReplicasToDirsResponse.TopicData
_Partition = AssignReplicasToDirsResponse.PartitionData


def handle(
    broker: BrokerServices, _context: RequestContext, request: AssignReplicasToDirsRequest
) -> Awaitable[AssignReplicasToDirsResponse]:
    """Answers once it is in the log."""
    placed = {
        (topic.topic_id, partition.partition_index): directory.id
        for directory in request.directories
        for topic in directory.topics
        for partition in topic.partitions
    }

    def assign() -> asyncio.Future[None]:
        check_broker_epoch(broker.image, request.broker_id, request.broker_epoch)
        return broker.controller.assign_directories(request.broker_id, placed)

    def answer(result: KafkaError | None) -> AssignReplicasToDirsResponse:
        if isinstance(result, KafkaError):
            return AssignReplicasToDirsResponse(error_code=result.code)
        image = broker.image
        return AssignReplicasToDirsResponse(
            directories=[
                _Directory(
                    id=directory.id,
                    topics=[
                        _Topic(
                            topic_id=topic.topic_id,
                            partitions=[
                                _Partition(
                                    partition_index=partition.partition_index,
                                    error_code=_error(
                                        image, request.broker_id, topic.topic_id, partition.partition_index
                                    ),
                                )
                                for partition in topic.partitions
                            ],
                        )
                        for topic in directory.topics
                    ],
                )
                for directory in request.directories
            ]
        )

    return after(broker, assign, answer)


def _error(image: MetadataImage, broker_id: int, topic_id: bytes, index: int) -> int:
    topic = image.topic_by_id(topic_id)
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_ID
    if not 0 <= index < len(topic.partitions):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return (
        ErrorCode.NONE if broker_id in topic.partitions[index].replicas else ErrorCode.NOT_LEADER_OR_FOLLOWER
    )
