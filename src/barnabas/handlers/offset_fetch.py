"""OffsetFetch (9), versions 0-10: what groups have committed.

Behaviour: one or several groups, some partitions or all; -1 for what has not been committed. What the answer says is
committed for good. See `coordinators.group.commit`.

    0   from where old consumers kept offsets: an unknown one is UNKNOWN_TOPIC_OR_PARTITION      1   the coordinator's
    2   all topics at once (null); an error for the whole            3   throttle time          5   leader epoch (KIP-320)
    6   flexible       7   only stable offsets: UNSTABLE_OFFSET_COMMIT while a transaction may move one (KIP-447)
    8   several groups (KIP-709)      9   member id and epoch, for groups of KIP-848             10  topic ids in place of names

Member id and epoch are looked at where the group is one of KIP-848; classic groups have no use for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import combine, settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 9

_TOP_LEVEL_ERROR_FROM = 2
_SEVERAL_GROUPS_FROM = 8
_TOPIC_IDS_FROM = 10
_INVALID_OFFSET = -1

_RequestGroup = OffsetFetchRequest.OffsetFetchRequestGroup
_RequestTopics = OffsetFetchRequest.OffsetFetchRequestTopics
_Group = OffsetFetchResponse.OffsetFetchResponseGroup
_Topics = OffsetFetchResponse.OffsetFetchResponseTopics
_Partitions = OffsetFetchResponse.OffsetFetchResponsePartitions


def handle(
    broker: BrokerServices, context: RequestContext, request: OffsetFetchRequest
) -> OffsetFetchResponse | asyncio.Future[OffsetFetchResponse]:
    """Asks the coordinator for each group, and answers in the shape of the version."""
    version = context.api_version
    groups = request.groups if version >= _SEVERAL_GROUPS_FROM else [_single_group(request)]
    return settle(
        lambda: combine([_fetch(broker, context, group, request.require_stable) for group in groups]),
        then=lambda fetched: _shaped(fetched, version),
        refuse=lambda error: error_response(request, version, error),
    )


def _single_group(request: OffsetFetchRequest) -> _RequestGroup:
    topics = None
    if request.topics is not None:
        topics = [
            _RequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
            for topic in request.topics
        ]
    return _RequestGroup(group_id=request.group_id, topics=topics)


def _fetch(
    broker: BrokerServices, context: RequestContext, group: _RequestGroup, require_stable: bool
) -> _Group | asyncio.Future[_Group]:
    version = context.api_version
    image = broker.image
    unknown = _resolve(image, group, version)

    def complete(fetched: _Group) -> _Group:
        if group.topics is None and version >= _TOPIC_IDS_FROM:
            fetched.topics = _with_ids(image, fetched.topics)
        fetched.topics += unknown
        return fetched

    def refuse(error: KafkaError) -> _Group:
        broker.log_refusal(context, f"group {group.group_id}", error)
        return _group_error(group, version, error.code)

    return settle(
        lambda: broker.group_coordinator.fetch_offsets(group, require_stable=require_stable),
        then=complete,
        refuse=refuse,
    )


def _resolve(image: MetadataImage, group: _RequestGroup, version: int) -> list[_Topics]:
    """Gives topics both name and id; those whose id nobody knows are taken out and answered with an error."""
    unknown: list[_Topics] = []
    if group.topics is None:
        return unknown
    known = []
    for topic in group.topics:
        if version >= _TOPIC_IDS_FROM:
            found = image.topic_by_id(topic.topic_id)
            if found is None:
                unknown.append(_with_error(topic, ErrorCode.UNKNOWN_TOPIC_ID))
                continue
            topic.name = found.name
        else:
            found = image.topics.get(topic.name)
            if found is not None:
                topic.topic_id = found.id
        known.append(topic)
    group.topics = known
    return unknown


def _with_ids(image: MetadataImage, topics: list[_Topics]) -> list[_Topics]:
    """Topics that were asked for without a name; one that no longer exists has no id to be answered by."""
    known = []
    for topic in topics:
        found = image.topics.get(topic.name)
        if found is not None:
            topic.topic_id = found.id
            known.append(topic)
    return known


def _with_error(topic: _RequestTopics, code: ErrorCode) -> _Topics:
    return _Topics(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            _Partitions(partition_index=index, committed_offset=_INVALID_OFFSET, metadata="", error_code=code)
            for index in topic.partition_indexes
        ],
    )


def _group_error(group: _RequestGroup, version: int, code: ErrorCode) -> _Group:
    if version >= _TOP_LEVEL_ERROR_FROM:
        return _Group(group_id=group.group_id, error_code=code)
    return _Group(group_id=group.group_id, topics=[_with_error(topic, code) for topic in group.topics or ()])


def _shaped(groups: list[_Group], version: int) -> OffsetFetchResponse:
    if version >= _SEVERAL_GROUPS_FROM:
        return OffsetFetchResponse(groups=groups)
    group = groups[0]
    topics = []
    for topic in group.topics:
        partitions = []
        for partition in topic.partitions:
            code = partition.error_code
            if version == 0 and partition.committed_offset == _INVALID_OFFSET and code == ErrorCode.NONE:
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            partitions.append(
                OffsetFetchResponse.OffsetFetchResponsePartition(
                    partition_index=partition.partition_index,
                    committed_offset=partition.committed_offset,
                    committed_leader_epoch=partition.committed_leader_epoch,
                    metadata=partition.metadata,
                    error_code=code,
                )
            )
        topics.append(OffsetFetchResponse.OffsetFetchResponseTopic(name=topic.name, partitions=partitions))
    return OffsetFetchResponse(topics=topics, error_code=group.error_code)


def error_response(request: OffsetFetchRequest, version: int, error: KafkaError) -> OffsetFetchResponse:
    """Every group of the request has the same error."""
    groups = request.groups if version >= _SEVERAL_GROUPS_FROM else [_single_group(request)]
    return _shaped([_group_error(group, version, error.code) for group in groups], version)
