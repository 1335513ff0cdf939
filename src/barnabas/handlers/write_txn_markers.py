"""WriteTxnMarkers (27), versions 0-2: a transaction coordinator ends transactions in partitions that this broker leads.

    1   flexible      2   the transaction version, by which an equal epoch is stale or not (KIP-890)

Behaviour: every marker is appended in every partition, and the answer waits until all are committed. Kafka's
`kafka-transactions.sh abort` sends it for transactions that hang.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.markers import TransactionMarker
from barnabas.handlers.replies import after
from barnabas.wire.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.coordinators.markers import MarkerOutcome
    from barnabas.errors import KafkaError
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 27

_Result = WriteTxnMarkersResponse.WritableTxnMarkerResult
_TopicResult = WriteTxnMarkersResponse.WritableTxnMarkerTopicResult
_PartitionResult = WriteTxnMarkersResponse.WritableTxnMarkerPartitionResult


def handle(
    broker: BrokerServices, context: RequestContext, request: WriteTxnMarkersRequest
) -> WriteTxnMarkersResponse | asyncio.Future[WriteTxnMarkersResponse]:
    """Appends the markers."""
    markers = [
        TransactionMarker(
            marker.producer_id,
            marker.producer_epoch,
            marker.coordinator_epoch,
            marker.transaction_result,
            marker.transaction_version,
            [(topic.name, index) for topic in marker.topics for index in topic.partition_indexes],
        )
        for marker in request.markers
    ]

    def answer(outcomes: list[MarkerOutcome] | KafkaError) -> WriteTxnMarkersResponse:
        if not isinstance(outcomes, list):
            return error_response(request, context.api_version, outcomes)
        # One result for each producer, whatever the number of its markers.
        by_producer: dict[int, MarkerOutcome] = {}
        for marker, outcome in zip(markers, outcomes, strict=True):
            by_producer.setdefault(marker.producer_id, {}).update(outcome)
        return WriteTxnMarkersResponse(
            markers=[_result(producer_id, outcome) for producer_id, outcome in by_producer.items()]
        )

    # Who asks gives up then, and comes again.
    timeout_ms = broker.config["request.timeout.ms"]
    return after(broker, lambda: broker.local_markers.write(markers, timeout_ms), answer)


def _result(producer_id: int, outcome: MarkerOutcome) -> _Result:
    topics: dict[str, list[_PartitionResult]] = {}
    for (topic, index), code in outcome.items():
        topics.setdefault(topic, []).append(_PartitionResult(partition_index=index, error_code=code))
    return _Result(
        producer_id=producer_id,
        topics=[_TopicResult(name=name, partitions=partitions) for name, partitions in topics.items()],
    )


def error_response(
    request: WriteTxnMarkersRequest, version: int, error: KafkaError
) -> WriteTxnMarkersResponse:
    """Every partition has the same error."""
    del version
    return WriteTxnMarkersResponse(
        markers=[
            _result(
                marker.producer_id,
                {
                    (topic.name, index): error.code
                    for topic in marker.topics
                    for index in topic.partition_indexes
                },
            )
            for marker in request.markers
        ]
    )
