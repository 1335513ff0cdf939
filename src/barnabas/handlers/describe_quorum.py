"""DescribeQuorum (55), versions 0-2: who keeps the metadata log, and how far (KIP-595).

    1   when a voter last fetched and was caught up (KIP-836)      2   nodes with their addresses, error messages (KIP-853)

Behaviour: the quorum is the node that leads the metadata log, alone. Only partition 0 of `__cluster_metadata`, and nothing beside it, can be asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.handlers.addresses import address_by_id
from barnabas.metadata.identifiers import CLUSTER_METADATA_TOPIC, ZERO_ID
from barnabas.wire.messages.describe_quorum import DescribeQuorumRequest, DescribeQuorumResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 55

_Topic = DescribeQuorumResponse.TopicData
_Partition = DescribeQuorumResponse.PartitionData

_WITH_MESSAGES = 2
_WITH_TIMES = 1


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeQuorumRequest
) -> DescribeQuorumResponse:
    """Answers at once."""
    asked = [
        (topic.topic_name, [part.partition_index for part in topic.partitions]) for topic in request.topics
    ]
    if asked != [(CLUSTER_METADATA_TOPIC, [0])]:
        message = ""
        if context.api_version >= _WITH_MESSAGES:
            message = "This server does not host this topic-partition."
        return DescribeQuorumResponse(
            topics=[
                _Topic(
                    topic_name=name,
                    partitions=[
                        _Partition(
                            partition_index=index,
                            error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                            error_message=message,
                        )
                        for index in indexes
                    ],
                )
                for name, indexes in asked
            ]
        )
    response = DescribeQuorumResponse(
        topics=[_Topic(topic_name=CLUSTER_METADATA_TOPIC, partitions=[_quorum(broker, context)])]
    )
    if context.api_version >= _WITH_MESSAGES:
        leader_id = broker.image.controller_id
        address = address_by_id(broker.image.brokers, leader_id, context.connection)
        if address is not None:
            listener = DescribeQuorumResponse.Listener(
                name=context.connection.listener_name, host=address[0], port=address[1]
            )
            response.nodes.append(DescribeQuorumResponse.Node(node_id=leader_id, listeners=[listener]))
    return response


def _quorum(broker: BrokerServices, context: RequestContext) -> DescribeQuorumResponse.PartitionData:
    image = broker.image
    voter = DescribeQuorumResponse.ReplicaState(
        replica_id=image.controller_id,
        replica_directory_id=ZERO_ID,
        log_end_offset=broker.controller.log_end_offset,
    )
    if context.api_version >= _WITH_TIMES:
        # The leader is caught up with itself at any time.
        voter.last_fetch_timestamp = voter.last_caught_up_timestamp = broker.clock.now_ms()
    return _Partition(
        partition_index=0,
        leader_id=image.controller_id,
        leader_epoch=image.epoch,
        high_watermark=image.offset + 1,
        current_voters=[voter],
    )
