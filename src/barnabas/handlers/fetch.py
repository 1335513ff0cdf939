"""Fetch (1), versions 4-18: read record batches from partitions.

Behaviour: finds the bytes of each partition in request order within `max_bytes` and the partitions' own limits; the first batch of the
first partition that has any is given whole, however big, so that every reader makes progress (KIP-74). With less than `min_bytes`, or
than `max_bytes` if that is less, the request is parked on its partitions until enough is appended or `max_wait_ms` is over. What
lies in another segment than the end of what may be read is given at once, however little, as in Kafka (`DelayedFetch`):
a fetch ends with its segment. Errors are told at once, but those of unknown partitions only if there are no others. The bytes are
regions of log files that the network hands to the kernel. Consumers may read from followers, up to what those know to be
committed; with `replica.selector.class` a leader sends them to a replica in their rack.

    4   isolation level, last stable offset, aborted transactions (KIP-98)      5   log start offset
    7   incremental fetch sessions (KIP-227)       9   current leader epoch (KIP-320)      10  zstd (KIP-110)
    11  rack id, preferred read replica (KIP-392)  12  flexible; diverging epoch (KIP-595)
    13  topic ids (KIP-516)                        15  replica state in place of replica id (KIP-903)
    16  endpoints of current leaders (KIP-951)     17  replica directory id (KIP-853)      18  high watermark of the replica

Deliberately not done: versions 0-3 (Kafka 4 dropped them with the old record formats).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.handlers.current_leaders import MOVED, current_leader, nodes_of
from barnabas.handlers.fetch_attempts import answer_or_park, by_topic, release
from barnabas.log.files import ColdRead
from barnabas.replication.sessions import NO_SESSION, FetchContext, FetchedPartition
from barnabas.wire.messages.fetch import FetchRequest, FetchResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.replication.partition import Partition
    from barnabas.wire.chunks import FileRegion

__all__ = ["API_KEY", "handle"]

API_KEY = 1

_PartitionData = FetchResponse.PartitionData
_NO_RECORDS = b""
_UNKNOWN = frozenset((ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID))
_TOPIC_IDS_FROM = 13
_LEADERS_FROM = 16
_FOLLOWERS_FROM = 11

_Read = list[tuple[FetchedPartition, FetchResponse.PartitionData]]


def handle(
    broker: BrokerServices, context: RequestContext, request: FetchRequest
) -> FetchResponse | Awaitable[FetchResponse]:
    """Answers at once where there is enough to read, or something to say; parks the request otherwise."""
    try:
        fetch = broker.fetch_sessions.open(request, context.api_version)
    except KafkaError as error:
        broker.log_refusal(context, f"session {request.session_id}", error)
        return FetchResponse(error_code=error.code, session_id=NO_SESSION, responses=[])
    state = request.replica_state
    if request.replica_id >= 0 or (state is not None and state.replica_id >= 0):
        from barnabas.handlers import replica_fetch

        return replica_fetch.handle(broker, context, request, fetch)
    return answer_or_park(broker, _Attempt(broker, context, request, fetch), request, fetch)


class _Attempt:
    """Reads all partitions of one fetch; called again whenever one of them may have more."""

    __slots__ = (
        "_broker",
        "_context",
        "_fetch",
        "_max_bytes",
        "_min_bytes",
        "_moved",
        "_request",
        "_unknown",
        "partitions",
    )

    def __init__(
        self, broker: BrokerServices, context: RequestContext, request: FetchRequest, fetch: FetchContext
    ) -> None:
        self._broker = broker
        self._context = context
        self._request = request
        self._fetch = fetch
        self._max_bytes = min(request.max_bytes, broker.fetch_max_bytes)
        self._min_bytes = min(request.min_bytes, self._max_bytes)
        self._moved: list[int] = []
        # Those that were unknown when the request came; None until all have been looked at.
        self._unknown: set[tuple[str | bytes, int]] | None = None
        self.partitions: list[Partition] = []

    def on_parked(self, future: asyncio.Future[FetchResponse]) -> None:
        """Nobody else need know."""

    def __call__(self, force: bool, *, may_block: bool) -> FetchResponse | None:
        """The answer, or None while there is too little and `force` is false.

        Raises:
            ColdRead: `may_block` is False, and the search needs something that is not in the page cache.
        """
        request = self._request
        version = self._context.api_version
        replicas = self._broker.replicas
        remaining = self._max_bytes
        size_bytes = 0
        tell_now = force
        unknown: set[tuple[str | bytes, int]] = set()
        read: _Read = []
        regions: list[FileRegion] = []
        partitions: list[Partition] = []
        senders: list[Partition] = []
        find = replicas.replica if version >= _FOLLOWERS_FROM else replicas.leader
        selector = self._broker.read_replicas if version >= _FOLLOWERS_FROM and request.rack_id else None
        for fetched in self._fetch.partitions():
            try:
                if version >= _TOPIC_IDS_FROM:
                    partition = replicas.replica_by_id(
                        fetched.topic_id, fetched.partition, fetched.current_leader_epoch
                    )
                else:
                    partition = find(fetched.topic, fetched.partition, fetched.current_leader_epoch)
                partitions.append(partition)
                if selector is not None:
                    preferred = selector.choose(partition, request.rack_id, fetched.fetch_offset)
                    if preferred is not None:
                        tell_now = True
                        read.append((fetched, _elsewhere(fetched, partition, preferred)))
                        continue
                found = partition.read(
                    fetched.fetch_offset,
                    min(fetched.max_bytes, remaining),
                    isolation_level=request.isolation_level,
                    min_one_batch=size_bytes == 0,
                    last_fetched_epoch=fetched.last_fetched_epoch,
                    may_block=may_block,
                )
            except ColdRead:
                release(regions)
                raise
            except KafkaError as error:
                if error.code in _UNKNOWN and (self._unknown is None or fetched.key in self._unknown):
                    unknown.add(
                        fetched.key
                    )  # no news: a consumer of a deleted topic, too, waits for its others
                else:
                    tell_now = True
                read.append((fetched, self._refused(fetched, error)))
                continue
            except StorageError as error:
                partition.metrics.failed_fetch_requests.value += 1
                tell_now = True
                read.append(
                    (fetched, self._refused(fetched, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))))
                )
                continue
            answer = _PartitionData(
                partition_index=fetched.partition,
                high_watermark=found.high_watermark,
                last_stable_offset=found.last_stable_offset,
                log_start_offset=found.log_start_offset,
                aborted_transactions=None,
                records=_NO_RECORDS,
            )
            if found.is_in_older_segment:
                tell_now = True  # however little: to wait for appends would be to wait for the next segments' records
            region = found.region
            if region is not None:
                answer.records = region
                regions.append(region)
                senders.append(partition)
                size_bytes += found.size_bytes
                remaining -= found.size_bytes
                remaining = max(remaining, 0)
            if request.isolation_level == 1 and found.diverging is None:
                answer.aborted_transactions = [
                    FetchResponse.AbortedTransaction(producer_id=producer_id, first_offset=first_offset)
                    for producer_id, first_offset in found.aborted_transactions or ()
                ]
            if found.diverging is not None:
                tell_now = True
                answer.diverging_epoch = FetchResponse.EpochEndOffset(
                    epoch=found.diverging[0], end_offset=found.diverging[1]
                )
            read.append((fetched, answer))
        self.partitions = partitions
        if self._unknown is None:
            self._unknown = unknown
        if len(unknown) == len(read):
            tell_now = True
        if not tell_now and size_bytes < self._min_bytes:
            release(regions)
            return None
        for partition in partitions:
            partition.metrics.fetch_requests.value += 1
        for partition, region in zip(senders, regions, strict=True):
            partition.metrics.bytes_out.value += region.size
        return self._answer(read)

    def _answer(self, read: _Read) -> FetchResponse:
        response = FetchResponse(
            error_code=0, session_id=self._fetch.session_id, responses=by_topic(self._fetch.select(read))
        )
        if self._moved:
            response.node_endpoints = [
                FetchResponse.NodeEndpoint(
                    node_id=node.node_id, host=node.host, port=node.port, rack=node.rack
                )
                for node in nodes_of(self._broker, self._context, self._moved)
            ]
        return response

    def _refused(self, fetched: FetchedPartition, error: KafkaError) -> FetchResponse.PartitionData:
        self._broker.log_refusal(
            self._context, f"{fetched.topic or fetched.topic_id.hex()}-{fetched.partition}", error
        )
        refused = _PartitionData(
            partition_index=fetched.partition,
            error_code=error.code,
            high_watermark=-1,
            # Kafka's answers differ so: none where it never asked the log, null where the log refused.
            aborted_transactions=[] if error.code in _UNKNOWN else None,
            records=_NO_RECORDS,
        )
        if error.code in MOVED and self._context.api_version >= _LEADERS_FROM:
            leader = current_leader(self._broker, fetched.topic, fetched.topic_id, fetched.partition)
            refused.current_leader = FetchResponse.LeaderIdAndEpoch(
                leader_id=leader.leader_id, leader_epoch=leader.leader_epoch
            )
            self._moved.append(leader.leader_id)
        return refused


def _elsewhere(
    fetched: FetchedPartition, partition: Partition, preferred: int
) -> FetchResponse.PartitionData:
    """Another replica is nearer to the consumer."""
    return _PartitionData(
        partition_index=fetched.partition,
        high_watermark=partition.high_watermark,
        last_stable_offset=partition.last_stable_offset,
        log_start_offset=partition.log_start_offset,
        aborted_transactions=None,
        preferred_read_replica=preferred,
        records=_NO_RECORDS,
    )
