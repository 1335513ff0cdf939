"""OffsetCommit (8), versions 0-10: keep offsets for a group.

Behaviour: partitions that do not exist are refused one by one, the others are committed together; the answer waits until
that is so. Requests that arrive together share a write. See `coordinators.group.commit`.

    0   group and offsets                1   generation, member id; a timestamp for each partition
    2   retention time in place of it    3   throttle time          5   no retention time: the broker's setting counts (KIP-211)
    6   leader epoch (KIP-320)           7   group instance id (KIP-345)        8   flexible
    9   GROUP_ID_NOT_FOUND (KIP-848)     10  topic ids in place of names (KIP-848)

Deliberately not done: version 0 keeps offsets where all versions do; Kafka kept them in ZooKeeper, and no longer serves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.refused_partitions import add_refused
from barnabas.wire.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 8

_TOPIC_IDS_FROM = 10

_RequestTopic = OffsetCommitRequest.OffsetCommitRequestTopic
_RequestPartition = OffsetCommitRequest.OffsetCommitRequestPartition
_ResponseTopic = OffsetCommitResponse.OffsetCommitResponseTopic
_ResponsePartition = OffsetCommitResponse.OffsetCommitResponsePartition


def handle(
    broker: BrokerServices, context: RequestContext, request: OffsetCommitRequest
) -> OffsetCommitResponse | asyncio.Future[OffsetCommitResponse]:
    """Commits what can be committed."""
    version = context.api_version
    refused = _take_out_unknown(broker.image, request, version)
    if refused and not request.topics:
        return OffsetCommitResponse(topics=refused)

    def refuse(error: KafkaError) -> OffsetCommitResponse:
        broker.log_refusal(context, f"group {request.group_id}", error)
        response = error_response(request, version, error)
        add_refused(response.topics, refused)
        return response

    def complete(response: OffsetCommitResponse) -> OffsetCommitResponse:
        add_refused(response.topics, refused)
        return response

    return settle(
        lambda: broker.group_coordinator.commit_offsets(request, version),
        then=complete,
        refuse=refuse,
    )


def _take_out_unknown(
    image: MetadataImage, request: OffsetCommitRequest, version: int
) -> list[_ResponseTopic]:
    """Leaves topics and partitions in the request that exist, with name and id; gives the refusals of the others."""
    refused = []
    known = []
    for topic in request.topics:
        if version >= _TOPIC_IDS_FROM:
            found = image.topic_by_id(topic.topic_id)
            code = ErrorCode.UNKNOWN_TOPIC_ID
        else:
            found = image.topics.get(topic.name)
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if found is None:
            refused.append(_refused(topic, topic.partitions, code))
            continue
        topic.name = found.name
        topic.topic_id = found.id
        count = len(found.partitions)
        unknown = [partition for partition in topic.partitions if not 0 <= partition.partition_index < count]
        if unknown:
            refused.append(_refused(topic, unknown, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            topic.partitions = [
                partition for partition in topic.partitions if 0 <= partition.partition_index < count
            ]
            if not topic.partitions:
                continue
        known.append(topic)
    request.topics = known
    return refused


def _refused(topic: _RequestTopic, partitions: list[_RequestPartition], code: ErrorCode) -> _ResponseTopic:
    return _ResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            _ResponsePartition(partition_index=partition.partition_index, error_code=code)
            for partition in partitions
        ],
    )


def error_response(request: OffsetCommitRequest, version: int, error: KafkaError) -> OffsetCommitResponse:
    """Every partition of the request has the same error."""
    del version
    return OffsetCommitResponse(
        topics=[_refused(topic, topic.partitions, error.code) for topic in request.topics]
    )
