"""ListOffsets (2), versions 0-11: offsets by timestamp, or of a place in the log.

    0   a list of segment offsets before a timestamp      1   one offset and its timestamp (KIP-79)
    2   isolation level (KIP-98)                          4   leader epochs (KIP-320)
    6   flexible                                          7   -3, the record with the greatest timestamp (KIP-734)
    8   -4, the earliest offset on this disk (KIP-405)    9   -5, the last tiered offset (KIP-1005)
    10  time-out for remote storage (KIP-1075)            11  -6, the earliest offset not yet tiered (KIP-1023)

Behaviour: an empty partition answers at once, and so does one that was not used since the start when asked for its end. Nothing is tiered, so -5
and -6 find nothing. A search by timestamp that has to read data does so within the segment that the time index names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.log.files import ColdRead
from barnabas.wire.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 2

_CONSUMER_REPLICA_ID = -1
_DEBUGGING_REPLICA_ID = -2

_ISOLATION_LEVELS = (0, 1)

_WARM_ROUNDS_MAX = 16
_NOT_AVAILABLE_FROM = 5

# The version from on which each negative "timestamp" may be asked for.
_SINCE_VERSION = {-1: 0, -2: 0, -3: 7, -4: 8, -5: 9, -6: 11}


def handle(
    broker: BrokerServices, context: RequestContext, request: ListOffsetsRequest
) -> ListOffsetsResponse | Awaitable[ListOffsetsResponse]:
    """Looks each partition up; what needs the disk is read by a worker thread first."""
    if request.isolation_level not in _ISOLATION_LEVELS:
        error = KafkaError(
            ErrorCode.UNKNOWN_SERVER_ERROR, f"there is no isolation level {request.isolation_level}"
        )
        broker.log_refusal(context, "offsets", error)
        return _refused(request, error)
    twice = _asked_twice(request)
    lookups: list[_Lookup] = []
    topics = []
    for topic in request.topics:
        answers = {}
        for asked in topic.partitions:
            answer = ListOffsetsResponse.ListOffsetsPartitionResponse(partition_index=asked.partition_index)
            answers[asked.partition_index] = answer
            if (topic.name, asked.partition_index) in twice:
                answer.error_code = ErrorCode.INVALID_REQUEST
                continue
            lookup = _Lookup(broker, context, request, topic.name, asked, answer)
            if not lookup.run(may_block=False):
                lookups.append(lookup)
        topics.append(
            ListOffsetsResponse.ListOffsetsTopicResponse(name=topic.name, partitions=list(answers.values()))
        )
    response = ListOffsetsResponse(topics=topics)
    return _when_warm(lookups, response) if lookups else response


def _refused(request: ListOffsetsRequest, error: KafkaError) -> ListOffsetsResponse:
    return ListOffsetsResponse(
        topics=[
            ListOffsetsResponse.ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    ListOffsetsResponse.ListOffsetsPartitionResponse(
                        partition_index=asked.partition_index, error_code=error.code
                    )
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def _when_warm(lookups: list[_Lookup], response: ListOffsetsResponse) -> ListOffsetsResponse:
    for lookup in lookups:
        for round_number in range(_WARM_ROUNDS_MAX):
            was_read = await lookup.read_from_disk()
            # Whatever the page cache drops again at once is not worth another round.
            if lookup.run(may_block=not was_read or round_number == _WARM_ROUNDS_MAX - 1):
                break
    return response


def _asked_twice(request: ListOffsetsRequest) -> set[tuple[str, int]]:
    seen: set[tuple[str, int]] = set()
    twice: set[tuple[str, int]] = set()
    for topic in request.topics:
        for asked in topic.partitions:
            key = (topic.name, asked.partition_index)
            (twice if key in seen else seen).add(key)
    return twice


class _Lookup:
    """One partition of the request, and its answer."""

    __slots__ = ("_answer", "_asked", "_broker", "_cold", "_context", "_request", "_topic")

    def __init__(
        self,
        broker: BrokerServices,
        context: RequestContext,
        request: ListOffsetsRequest,
        topic: str,
        asked: ListOffsetsRequest.ListOffsetsPartition,
        answer: ListOffsetsResponse.ListOffsetsPartitionResponse,
    ) -> None:
        self._broker = broker
        self._context = context
        self._request = request
        self._topic = topic
        self._asked = asked
        self._answer = answer
        self._cold: ColdRead | None = None

    def run(self, *, may_block: bool) -> bool:
        """Fills the answer in; False if something has to be read from the disk first."""
        try:
            self._look_up(may_block=may_block)
        except ColdRead as cold:
            cold.__traceback__ = None
            self._cold = cold
            return False
        except KafkaError as error:
            code = error.code
            if code is ErrorCode.OFFSET_NOT_AVAILABLE and self._context.api_version < _NOT_AVAILABLE_FROM:
                code = ErrorCode.LEADER_NOT_AVAILABLE
            self._refuse(error, code)
        except StorageError as error:
            self._refuse(error, ErrorCode.KAFKA_STORAGE_ERROR)
        return True

    async def read_from_disk(self) -> bool:
        """Has what `run` needs read by a thread; whether it could be, if not `run` meets the same error."""
        cold, self._cold = self._cold, None
        assert cold is not None
        try:
            await self._broker.disk_readers.read(cold.warm, cold.release)
        except StorageError:
            return False
        return True

    def _refuse(self, error: Exception, code: ErrorCode) -> None:
        self._broker.log_refusal(self._context, f"{self._topic}-{self._asked.partition_index}", error)
        self._answer.error_code = code

    def _look_up(self, *, may_block: bool) -> None:
        version = self._context.api_version
        asked, answer = self._asked, self._answer
        timestamp_ms = asked.timestamp
        if version and timestamp_ms < 0 and _SINCE_VERSION.get(timestamp_ms, 2**15) > version:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION, f"timestamp {timestamp_ms} means nothing in version {version}"
            )
        replicas = self._broker.replicas
        find = replicas.replica if self._request.replica_id == _DEBUGGING_REPLICA_ID else replicas.leader
        partition = find(self._topic, asked.partition_index, asked.current_leader_epoch)
        if version == 0:
            answer.old_style_offsets = partition.offsets_before(timestamp_ms, asked.max_num_offsets)
            return
        request = self._request
        isolation_level = request.isolation_level if request.replica_id == _CONSUMER_REPLICA_ID else None
        found = replicas.offset_of_closed(partition, timestamp_ms, isolation_level)
        if found is None:
            found = partition.list_offset(timestamp_ms, isolation_level, may_block=may_block)
        answer.offset = found.offset
        answer.timestamp = found.timestamp_ms
        if version >= 4:
            answer.leader_epoch = found.leader_epoch
