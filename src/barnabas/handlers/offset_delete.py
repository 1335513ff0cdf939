"""OffsetDelete (47), version 0: forget what a group has committed for some partitions (KIP-496).

Behaviour: partitions that do not exist are refused one by one, and so are those of a topic that the group reads
(GROUP_SUBSCRIBED_TO_TOPIC). A live group that is not one of consumers refuses everything (NON_EMPTY_GROUP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.refused_partitions import add_refused
from barnabas.wire.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 47

_ResponseTopic = OffsetDeleteResponse.OffsetDeleteResponseTopic
_ResponsePartition = OffsetDeleteResponse.OffsetDeleteResponsePartition


def handle(
    broker: BrokerServices, context: RequestContext, request: OffsetDeleteRequest
) -> OffsetDeleteResponse | asyncio.Future[OffsetDeleteResponse]:
    """Deletes what can be deleted."""
    refused = _take_out_unknown(broker.image, request)

    def complete(response: OffsetDeleteResponse) -> OffsetDeleteResponse:
        add_refused(response.topics, refused)
        return response

    def refuse(error: KafkaError) -> OffsetDeleteResponse:
        broker.log_refusal(context, f"group {request.group_id}", error)
        return error_response(request, context.api_version, error)

    return settle(
        lambda: broker.group_coordinator.delete_offsets(request),
        then=complete,
        refuse=refuse,
    )


def _take_out_unknown(image: MetadataImage, request: OffsetDeleteRequest) -> list[_ResponseTopic]:
    """Leaves topics and partitions in the request that exist; gives the refusals of the others."""
    refused = []
    for topic in request.topics:
        found = image.topics.get(topic.name)
        count = 0 if found is None else len(found.partitions)
        unknown = [partition for partition in topic.partitions if not 0 <= partition.partition_index < count]
        if unknown:
            refused.append(
                _ResponseTopic(
                    name=topic.name,
                    partitions=[
                        _ResponsePartition(
                            partition_index=partition.partition_index,
                            error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                        )
                        for partition in unknown
                    ],
                )
            )
            topic.partitions = [
                partition for partition in topic.partitions if 0 <= partition.partition_index < count
            ]
    request.topics = [topic for topic in request.topics if topic.partitions]
    return refused


def error_response(request: OffsetDeleteRequest, version: int, error: KafkaError) -> OffsetDeleteResponse:
    """The request as a whole is refused."""
    del request, version
    return OffsetDeleteResponse(error_code=error.code)
