"""DescribeProducers (61), version 0: the producers that a partition remembers, and since when they are in a transaction (KIP-664).

Behaviour: answered by the leader of the partition; `kafka-transactions.sh find-hanging` goes by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.handlers.replies import codes
from barnabas.metadata.topic_names import validate_topic_name
from barnabas.wire.messages.describe_producers import DescribeProducersRequest, DescribeProducersResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 61

_Topic = DescribeProducersResponse.TopicResponse
_Partition = DescribeProducersResponse.PartitionResponse
_Producer = DescribeProducersResponse.ProducerState


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeProducersRequest
) -> DescribeProducersResponse:
    """Describes each partition that is asked for."""
    return DescribeProducersResponse(
        topics=[
            _Topic(
                name=topic.name,
                partitions=[
                    _described(broker, context, topic.name, index) for index in topic.partition_indexes
                ],
            )
            for topic in request.topics
        ]
    )


def _described(broker: BrokerServices, context: RequestContext, topic: str, index: int) -> _Partition:
    try:
        validate_topic_name(topic)
        partition = broker.replicas.leader(topic, index)
        return _Partition(
            partition_index=index,
            active_producers=[
                _Producer(
                    producer_id=entry.producer_id,
                    producer_epoch=entry.epoch,
                    last_sequence=entry.last_sequence,
                    last_timestamp=entry.last_timestamp_ms,
                    coordinator_epoch=entry.coordinator_epoch,
                    current_txn_start_offset=entry.transaction_first_offset,
                )
                for entry in partition.log.producer_state.active_producers()
            ],
        )
    except StorageError as error:
        refusal = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
    except KafkaError as error:
        refusal = error
    broker.log_refusal(context, f"{topic}-{index}", refusal)
    code, message = codes(refusal)
    if topic in broker.image.topics:
        message = None  # Kafka has words for topics alone
    return _Partition(partition_index=index, error_code=code, error_message=message)
