"""Fetch by a follower, for `handlers.fetch`: what it says it holds moves the high watermark on.

Behaviour: as for a consumer, but up to the log end, and each partition's fetch offset counts as an acknowledgement of all below, once the
follower's log is known to agree with ours up to there. Of a session's partitions only those are looked at that there is something to
tell of, so that a follower of thousands costs what happens in them. When a follower has more to say it does not wait for the answer:
a request that comes while another of its session is parked has that one answered at once.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.handlers.fetch_attempts import answer_or_park, by_topic, release
from barnabas.log.files import ColdRead
from barnabas.replication.replica_session import ReplicaSession
from barnabas.wire.messages.fetch import FetchResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.replication.partition import Partition
    from barnabas.replication.sessions import FetchContext, FetchedPartition
    from barnabas.wire.chunks import FileRegion
    from barnabas.wire.messages.fetch import FetchRequest

__all__ = ["handle"]

_PartitionData = FetchResponse.PartitionData
_NO_RECORDS = b""
_COPIED_BYTES_MAX = 8192
"""Records of a partition up to so many bytes go out with the rest of the answer, in one piece: the kernel's way from file to socket costs
two calls more, and may wake the follower for a part of an answer."""
_UNKNOWN = frozenset((ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID))
_TOPIC_IDS_FROM = 13

_Key = tuple[str | bytes, int]
_Read = list[tuple["FetchedPartition", FetchResponse.PartitionData]]


def handle(
    broker: BrokerServices, context: RequestContext, request: FetchRequest, fetch: FetchContext
) -> FetchResponse | Awaitable[FetchResponse]:
    """Notes what the follower holds, and answers or parks."""
    return answer_or_park(broker, _Attempt(broker, context, request, fetch), request, fetch)


class _Attempt:
    """Looks at the partitions of one fetch; called again whenever there is news of one of them."""

    __slots__ = (
        "_asked",
        "_broker",
        "_broker_epoch",
        "_context",
        "_fetch",
        "_held_back",
        "_now_ms",
        "_replica_id",
        "_request",
        "_session",
        "_tells_now",
        "partitions",
    )

    def __init__(
        self, broker: BrokerServices, context: RequestContext, request: FetchRequest, fetch: FetchContext
    ) -> None:
        self._broker = broker
        self._context = context
        self._request = request
        self._fetch = fetch
        self._now_ms = broker.clock.monotonic_ms()
        state = request.replica_state
        self._replica_id = request.replica_id if state is None else state.replica_id
        self._broker_epoch = -1 if state is None else state.replica_epoch
        self._asked: dict[_Key, None] = {}
        self._held_back: set[_Key] = set()
        self._tells_now = False
        self.partitions: list[Partition] = []
        by_id = context.api_version >= _TOPIC_IDS_FROM
        for topic in request.topics:
            name = topic.topic_id if by_id else topic.topic
            for asked in topic.partitions:
                self._asked[name, asked.partition] = None
        session = self._session = fetch.replica_session(ReplicaSession)
        if session is not None:
            session.last_fetch_ms = self._now_ms
            if session.cut_short is not None:
                session.cut_short()
            for forgotten in request.forgotten_topics_data:
                name = forgotten.topic_id if by_id else forgotten.topic
                for index in forgotten.partitions:
                    session.detach((name, index))
            if session.broker_epoch != self._broker_epoch:
                # Registered anew: for the controller it is another broker, whatever it said of its partitions before.
                session.broker_epoch = self._broker_epoch
                self._asked.update(dict.fromkeys(session.partitions))
            session.ask(self._asked)

    def on_parked(self, future: asyncio.Future[FetchResponse]) -> None:
        """News of the session's partitions wake it."""
        if self._session is not None:
            waiting = self._broker.waiting
            self._session.park(
                functools.partial(waiting.wake, future), functools.partial(waiting.cut_short, future)
            )

    def __call__(self, force: bool, *, may_block: bool) -> FetchResponse | None:
        """The answer, or None while there is nothing to tell now and `force` is false.

        Raises:
            ColdRead: `may_block` is False, and the search needs something that is not in the page cache.
        """
        session = self._session
        if session is None:
            partitions = {fetched.key: fetched for fetched in self._fetch.partitions()}
            keys = list(partitions)
        else:
            partitions = session.partitions
            keys = list(session.ready)
        request = self._request
        remaining = min(request.max_bytes, self._broker.fetch_max_bytes)
        min_bytes = min(request.min_bytes, remaining)
        size_bytes = 0
        self._tells_now = force
        self._held_back.clear()
        read: _Read = []
        regions: list[FileRegion] = []
        for key in keys:
            fetched = partitions.get(key)
            if fetched is not None:
                try:
                    answer, region = self._read(
                        key,
                        fetched,
                        min(fetched.max_bytes, remaining),
                        min_one_batch=size_bytes == 0,
                        may_block=may_block,
                    )
                except ColdRead:
                    release(regions)
                    raise
                if region is not None:
                    regions.append(region)
                    size_bytes += region.size
                    remaining = max(remaining - region.size, 0)
                elif answer.error_code or answer.diverging_epoch is not None:
                    self._tells_now = True
                if key in self._held_back and not fetched.has_news(answer):
                    continue  # it stays in the line until the quota has room for it
                if session is None or region is not None or fetched.has_news(answer):
                    read.append((fetched, answer))
                    continue
            if session is not None:
                session.ready.pop(key, None)
        if not self._tells_now and size_bytes < min_bytes:
            release(regions)
            return None
        return self._answer(read)

    def _read(
        self, key: _Key, fetched: FetchedPartition, max_bytes: int, *, min_one_batch: bool, may_block: bool
    ) -> tuple[FetchResponse.PartitionData, FileRegion | None]:
        replicas = self._broker.replicas
        try:
            if self._context.api_version >= _TOPIC_IDS_FROM:
                partition = replicas.leader_by_id(
                    fetched.topic_id, fetched.partition, fetched.current_leader_epoch
                )
            else:
                partition = replicas.leader(fetched.topic, fetched.partition, fetched.current_leader_epoch)
            progress = partition.follower(self._replica_id)
            log = partition.log
            log.check_online()
            answer = _PartitionData(
                partition_index=fetched.partition,
                high_watermark=partition.high_watermark,
                last_stable_offset=partition.last_stable_offset,
                log_start_offset=log.log_start_offset,
                aborted_transactions=None,
                records=_NO_RECORDS,
            )
            if fetched.last_fetched_epoch >= 0:
                diverging = partition.divergence(log, fetched.fetch_offset, fetched.last_fetched_epoch)
                if diverging is not None:
                    answer.diverging_epoch = FetchResponse.EpochEndOffset(
                        epoch=diverging[0], end_offset=diverging[1]
                    )
                    return answer, None
            partition.check_offset(log, fetched.fetch_offset)
            if key in self._asked:
                del self._asked[key]
                leading = partition.leading
                assert leading is not None
                leading.on_fetch(
                    progress,
                    log,
                    fetch_offset=fetched.fetch_offset,
                    log_start_offset=fetched.log_start_offset,
                    broker_epoch=self._broker_epoch,
                    now_ms=self._now_ms,
                )
                answer.high_watermark = partition.high_watermark
                answer.last_stable_offset = partition.last_stable_offset
                if self._session is not None:
                    self._session.attach(key, progress)
            end = log.log_end_offset
            quota = self._broker.leader_quota
            if (
                quota is not None
                and progress.node_id not in partition.isr
                and fetched.fetch_offset < end
                and quota.is_exceeded(partition)
            ):
                self._held_back.add(key)
                return answer, None
            if fetched.fetch_offset == end or (max_bytes <= 0 and not min_one_batch):
                return answer, None
            found = log.read(
                fetched.fetch_offset,
                max_bytes,
                up_to_offset=end,
                min_one_batch=min_one_batch,
                may_block=may_block,
            )
            if found.is_in_older_segment:
                self._tells_now = True
            region = found.region
            if region is not None:
                if quota is not None:
                    quota.record(partition, region.size)
                if region.size <= _COPIED_BYTES_MAX and region.is_cached():
                    answer.records = region.read()
                    region.release()
                else:
                    answer.records = region
        except KafkaError as error:
            return self._refused(fetched, error), None
        except StorageError as error:
            return self._refused(fetched, KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))), None
        return answer, found.region

    def _refused(self, fetched: FetchedPartition, error: KafkaError) -> FetchResponse.PartitionData:
        self._broker.log_refusal(
            self._context, f"{fetched.topic or fetched.topic_id.hex()}-{fetched.partition}", error
        )
        return _PartitionData(
            partition_index=fetched.partition,
            error_code=error.code,
            high_watermark=-1,
            aborted_transactions=[] if error.code in _UNKNOWN else None,
            records=_NO_RECORDS,
        )

    def _answer(self, read: _Read) -> FetchResponse:
        answers = self._fetch.select(read)
        session = self._session
        if session is not None:
            for fetched, answer in answers:
                # What has got records stands last in the line, and stays in it until the follower says that it has them.
                session.ready.pop(fetched.key, None)
                if answer.records or answer.error_code or fetched.key in self._held_back:
                    session.ready[fetched.key] = None
        return FetchResponse(error_code=0, session_id=self._fetch.session_id, responses=by_topic(answers))
