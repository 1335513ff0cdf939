"""DescribeTopicPartitions (75), version 0: topics in pages, for clusters with very many partitions (KIP-966).

Behaviour: topics come sorted by name, at most `response_partition_limit` partitions of them (and never more than
`max.request.partition.size.limit`); where more is left, the answer ends with a cursor from which to ask on. Unlike Metadata
it creates nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.authorized_operations import TOPIC_OPERATIONS
from barnabas.handlers.offline_replicas import offline_replicas
from barnabas.metadata.identifiers import INTERNAL_TOPICS
from barnabas.metadata.image import NO_LEADER
from barnabas.metadata.topic_names import is_valid_topic_name
from barnabas.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage, Topic

__all__ = ["API_KEY", "handle"]

API_KEY = 75

_ResponseTopic = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
_ResponsePartition = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponsePartition


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    """Answers with one page."""
    image = broker.image
    cursor = request.cursor
    asked = {topic.name for topic in request.topics}
    first = "" if cursor is None else cursor.topic_name
    error = _cursor_error(request)
    if error is not None:
        broker.log_refusal(context, first, error)
        return DescribeTopicPartitionsResponse(
            topics=[
                _ResponseTopic(error_code=error.code, name=topic.name, is_internal=False)
                for topic in request.topics
            ]
        )
    names = sorted(name for name in asked or image.topics if name >= first)
    limit = max(1, min(request.response_partition_limit, broker.config["max.request.partition.size.limit"]))
    response = DescribeTopicPartitionsResponse()
    for name in names:
        topic = image.topics.get(name)
        if limit == 0:
            response.next_cursor = DescribeTopicPartitionsResponse.Cursor(topic_name=name, partition_index=0)
            break
        if topic is None:
            response.topics.append(_missing(name))
            continue
        start = cursor.partition_index if cursor is not None and name == first else 0
        end = min(len(topic.partitions), start + limit)
        response.topics.append(_topic(image, context.connection.listener_name, topic, start, end))
        if end < len(topic.partitions):
            response.next_cursor = DescribeTopicPartitionsResponse.Cursor(
                topic_name=name, partition_index=end
            )
            break
        limit -= max(0, end - start)
    return response


def _cursor_error(request: DescribeTopicPartitionsRequest) -> KafkaError | None:
    cursor = request.cursor
    if cursor is None:
        return None
    if request.topics and all(topic.name != cursor.topic_name for topic in request.topics):
        return KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"DescribeTopicPartitionsRequest topic list should contain the cursor topic: {cursor.topic_name}",
        )
    if cursor.partition_index < 0:
        return KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"DescribeTopicPartitionsRequest cursor partition must be valid: {cursor.partition_index}",
        )
    return None


def _missing(name: str) -> DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic:
    known = is_valid_topic_name(name)
    return _ResponseTopic(
        error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if known else ErrorCode.INVALID_TOPIC_EXCEPTION,
        name=name,
        is_internal=name in INTERNAL_TOPICS,
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _topic(
    image: MetadataImage, listener: str, topic: Topic, start: int, end: int
) -> DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic:
    brokers = image.brokers
    partitions = []
    for partition in topic.partitions[start:end]:
        leader = brokers.get(partition.leader)
        partitions.append(
            _ResponsePartition(
                error_code=0,
                partition_index=partition.index,
                leader_id=partition.leader if leader and listener in leader.endpoints else NO_LEADER,
                leader_epoch=partition.leader_epoch,
                replica_nodes=list(partition.replicas),
                isr_nodes=list(partition.isr),
                eligible_leader_replicas=list(partition.elr),
                last_known_elr=list(partition.last_known_elr),
                offline_replicas=offline_replicas(brokers, listener, partition),
            )
        )
    return _ResponseTopic(
        error_code=0,
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.is_internal,
        partitions=partitions,
        topic_authorized_operations=TOPIC_OPERATIONS,
    )
