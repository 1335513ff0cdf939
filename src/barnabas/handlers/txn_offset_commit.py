"""TxnOffsetCommit (28), versions 0-5: offsets that count once a transaction commits.

    2   leader epoch (KIP-320)      3   flexible; generation and member on whose behalf it is (KIP-447)
    4   TRANSACTION_ABORTABLE       5   adds the group's partition to the transaction (KIP-890)

Behaviour: partitions that do not exist are refused one by one, the others are committed together. See
`coordinators.transactional_offsets` and `coordinators.group.commit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.refused_partitions import add_refused
from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 28

_LOADING_FROM = 2

_RequestTopic = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
_RequestPartition = TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition
_ResponseTopic = TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic
_ResponsePartition = TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition


def handle(
    broker: BrokerServices, context: RequestContext, request: TxnOffsetCommitRequest
) -> TxnOffsetCommitResponse | asyncio.Future[TxnOffsetCommitResponse]:
    """Commits what can be committed."""
    version = context.api_version
    refused = _take_out_unknown(broker.image, request)
    if refused and not request.topics:
        return TxnOffsetCommitResponse(topics=refused)

    def refuse(error: KafkaError) -> TxnOffsetCommitResponse:
        broker.log_refusal(context, f"group {request.group_id}", error)
        return complete(error_response(request, version, error))

    def complete(response: TxnOffsetCommitResponse) -> TxnOffsetCommitResponse:
        add_refused(response.topics, refused)
        return response

    return settle(lambda: broker.transactional_offsets.commit(request, version), then=complete, refuse=refuse)


def _take_out_unknown(image: MetadataImage, request: TxnOffsetCommitRequest) -> list[_ResponseTopic]:
    """Leaves partitions in the request that exist; gives the refusals of the others."""
    refused = []
    known = []
    for topic in request.topics:
        found = image.topics.get(topic.name)
        count = 0 if found is None else len(found.partitions)
        unknown = [partition for partition in topic.partitions if not 0 <= partition.partition_index < count]
        if unknown:
            refused.append(_refused(topic, unknown, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            topic.partitions = [each for each in topic.partitions if 0 <= each.partition_index < count]
            if not topic.partitions:
                continue
        if found is not None:
            known.append(topic)
        elif not unknown:
            refused.append(_refused(topic, [], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
    request.topics = known
    return refused


def _refused(topic: _RequestTopic, partitions: list[_RequestPartition], code: ErrorCode) -> _ResponseTopic:
    return _ResponseTopic(
        name=topic.name,
        partitions=[
            _ResponsePartition(partition_index=partition.partition_index, error_code=code)
            for partition in partitions
        ],
    )


def error_response(
    request: TxnOffsetCommitRequest, version: int, error: KafkaError
) -> TxnOffsetCommitResponse:
    """Every partition of the request has the same error."""
    code = error.code
    if version < _LOADING_FROM and code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
        code = ErrorCode.COORDINATOR_NOT_AVAILABLE  # KAFKA-7296: clients before 2.0 break down at the other
    return TxnOffsetCommitResponse(
        topics=[_refused(topic, topic.partitions, code) for topic in request.topics]
    )
