"""Transactions whose coordinator, or whose partitions, are on another broker of the cluster.

    this broker's partition is written to ──AddPartitionsToTxn──> the broker that coordinates the transaction
    this broker coordinates a transaction ──WriteTxnMarkers────> the brokers that lead its partitions

Source: Kafka's `AddPartitionsToTxnManager` and `TransactionMarkerChannelManager`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
)
from barnabas.wire.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from barnabas.client.peers import Peers
    from barnabas.coordinators.markers import MarkerOutcome, TransactionMarker
    from barnabas.coordinators.transaction.initialize import ProducerIdentity
    from barnabas.coordinators.transaction.transaction import TopicPartition

__all__ = ["RemoteMarkers", "RemoteTransactions"]

_Codes = dict["TopicPartition", ErrorCode]


class RemoteTransactions:
    """See the module.

    Args:
        peers: The other brokers.
        loop: The event loop.
        timeout_ms: `request.timeout.ms`.
    """

    __slots__ = ("_loop", "_peers", "_timeout_ms")

    def __init__(self, peers: Peers, loop: asyncio.AbstractEventLoop, *, timeout_ms: int) -> None:
        self._peers = peers
        self._loop = loop
        self._timeout_ms = timeout_ms

    def enlist(
        self,
        node_id: int,
        transactional_id: str,
        producer: ProducerIdentity,
        partitions: Collection[TopicPartition],
        *,
        verify_only: bool,
    ) -> asyncio.Future[_Codes]:
        """Verifies or adds partitions of a transaction; what its coordinator says of each, NETWORK_EXCEPTION if nothing."""
        request = AddPartitionsToTxnRequest(
            transactions=[
                AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
                    transactional_id=transactional_id,
                    producer_id=producer.producer_id,
                    producer_epoch=producer.epoch,
                    verify_only=verify_only,
                    topics=[
                        AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=topic, partitions=indexes)
                        for topic, indexes in _by_topic(partitions)
                    ],
                )
            ]
        )

        def codes(response: AddPartitionsToTxnResponse) -> _Codes:
            if response.error_code != ErrorCode.NONE:
                return dict.fromkeys(partitions, ErrorCode(response.error_code))
            found: _Codes = dict.fromkeys(partitions, ErrorCode.UNKNOWN_SERVER_ERROR)
            for transaction in response.results_by_transaction:
                for topic in transaction.topic_results:
                    for partition in topic.results_by_partition:
                        found[topic.name, partition.partition_index] = ErrorCode(
                            partition.partition_error_code
                        )
            return found

        return self._ask(
            node_id, request, codes, lambda: dict.fromkeys(partitions, ErrorCode.NETWORK_EXCEPTION)
        )

    def write(
        self, node_id: int, markers: Sequence[TransactionMarker]
    ) -> asyncio.Future[list[MarkerOutcome]]:
        """Has markers appended by the broker that leads their partitions; fails with KafkaError if it says nothing."""
        request = WriteTxnMarkersRequest(
            markers=[
                WriteTxnMarkersRequest.WritableTxnMarker(
                    producer_id=marker.producer_id,
                    producer_epoch=marker.producer_epoch,
                    transaction_result=marker.committed,
                    coordinator_epoch=marker.coordinator_epoch,
                    transaction_version=marker.version,
                    topics=[
                        WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=topic, partition_indexes=indexes)
                        for topic, indexes in _by_topic(marker.partitions)
                    ],
                )
                for marker in markers
            ]
        )

        def outcomes(response: WriteTxnMarkersResponse) -> list[MarkerOutcome]:
            by_producer: dict[int, MarkerOutcome] = {}
            for result in response.markers:
                outcome = by_producer.setdefault(result.producer_id, {})
                for topic in result.topics:
                    for partition in topic.partitions:
                        outcome[topic.name, partition.partition_index] = ErrorCode(partition.error_code)
            return [
                {
                    partition: by_producer.get(marker.producer_id, {}).get(
                        partition, ErrorCode.UNKNOWN_SERVER_ERROR
                    )
                    for partition in marker.partitions
                }
                for marker in markers
            ]

        return self._ask(node_id, request, outcomes, None)

    def _ask(
        self,
        node_id: int,
        request: Any,
        then: Callable[[Any], Any],
        otherwise: Callable[[], Any] | None,
    ) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = self._loop.create_future()

        def done(sent: asyncio.Future[Any]) -> None:
            error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
            if answer.done():
                return
            if error is None:
                answer.set_result(then(sent.result()))
            elif otherwise is not None:
                answer.set_result(otherwise())
            else:
                answer.set_exception(KafkaError(ErrorCode.NETWORK_EXCEPTION, str(error)))

        self._peers.send(node_id, request, timeout_ms=self._timeout_ms).add_done_callback(done)
        return answer


class RemoteMarkers:
    """The way of markers to one other broker (`MarkerWriter`)."""

    __slots__ = ("_node_id", "_remote")

    def __init__(self, remote: RemoteTransactions, node_id: int) -> None:
        self._remote = remote
        self._node_id = node_id

    def write(self, markers: Sequence[TransactionMarker]) -> asyncio.Future[list[MarkerOutcome]]:
        """See `MarkerWriter.write`; fails with KafkaError when the broker does not answer."""
        return self._remote.write(self._node_id, markers)


def _by_topic(partitions: Iterable[TopicPartition]) -> Iterable[tuple[str, list[int]]]:
    topics: dict[str, list[int]] = {}
    for topic, index in partitions:
        topics.setdefault(topic, []).append(index)
    return topics.items()
