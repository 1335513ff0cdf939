"""The produce request that a client sends again and again, answered without taking it apart each time.

A client that sends records as they come repeats itself: of its requests to one partition, all bytes are the same but the
correlation id and the batch. So each connection remembers, for a few partitions, what stood before the batch and what that
meant. A request that begins the same way is appended at once; nothing of it is decoded but two numbers. Everything else,
and whatever is to be refused, takes the ordinary way (`handlers.produce`), which alone knows errors.

    request     api key int16, version int16 | correlation id int32 | beginning ... | size of the batch | batch | tags
    response    correlation id int32 | beginning | base offset, append time, log start offset: int64 each | ending
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.handlers import produce
from barnabas.handlers.services import RequestContext
from barnabas.metadata.identifiers import INTERNAL_TOPICS
from barnabas.network.parked import Parked
from barnabas.wire.headers import encode_response_header
from barnabas.wire.messages.produce import ProduceRequest, ProduceResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.handlers.services import BrokerServices
    from barnabas.log.partition_log import AppendResult
    from barnabas.metrics import Counter
    from barnabas.network.context import ConnectionContext

__all__ = ["RepeatedProduces"]

REMEMBERED_MAX = 128
"""Requests that a connection remembers: partitions to which its client sends, as a rule."""

_FIRST_VERSION = 5  # the first whose answer tells the log start offset
_FLEXIBLE_FROM = 9
_TOPIC_IDS_FROM = 13
_SHORTEST = 8 + 61
_BEGINNING_AT = 8
_NO_TAGS = bytes(3)  # of the partition, the topic and the request

_unpack_head = Struct(">ii").unpack_from
_unpack_size = Struct(">i").unpack_from
_pack_numbers = Struct(">qqq").pack
# Looked for in an encoded answer, to learn where its numbers stand.
_NUMBERS = (0x0102030405060708, 0x1112131415161718, 0x2122232425262728)


@cache
def _answer_format(beginning_bytes: int, ending_bytes: int) -> Struct:
    """Of an answer, header and body; one for all that are cut the same way."""
    return Struct(f">i{beginning_bytes}sqqq{ending_bytes}s")


class _Remembered:
    """What the bytes before a batch meant, and the answer without its numbers."""

    __slots__ = (
        "_pack",
        "acks",
        "beginning",
        "client_id",
        "ending",
        "index",
        "timeout_ms",
        "topic",
        "topic_id",
    )

    def __init__(
        self, broker: BrokerServices, client_id: str | None, request: ProduceRequest, version: int
    ) -> None:
        topic = request.topic_data[0]
        self.client_id = client_id
        self.topic = topic.name
        self.topic_id = topic.topic_id
        self.index = topic.partition_data[0].index
        self.acks = request.acks
        self.timeout_ms = produce.acknowledgement_timeout_ms(broker, request.timeout_ms)
        example = encode_response_header(produce.API_KEY, version, 0) + self.response(*_NUMBERS).encode(
            version
        )
        beginning, self.ending = example.split(_pack_numbers(*_NUMBERS))
        self.beginning = beginning[4:]
        self._pack = _answer_format(len(self.beginning), len(self.ending)).pack

    def context(self, version: int, correlation_id: int, connection: ConnectionContext) -> RequestContext:
        """Where the request comes from."""
        return RequestContext(produce.API_KEY, version, correlation_id, self.client_id, connection)

    def topic_data(self, records: memoryview) -> ProduceRequest.TopicProduceData:
        """The request's only topic as a message."""
        partition = ProduceRequest.PartitionProduceData(index=self.index, records=records)
        return ProduceRequest.TopicProduceData(
            name=self.topic, topic_id=self.topic_id, partition_data=[partition]
        )

    def response(self, base_offset: int, log_append_time_ms: int, log_start_offset: int) -> ProduceResponse:
        """The answer as a message."""
        partition = ProduceResponse.PartitionProduceResponse(
            index=self.index,
            base_offset=base_offset,
            log_append_time_ms=log_append_time_ms,
            log_start_offset=log_start_offset,
        )
        return ProduceResponse(
            responses=[
                ProduceResponse.TopicProduceResponse(
                    name=self.topic, topic_id=self.topic_id, partition_responses=[partition]
                )
            ]
        )

    def encode(
        self, correlation_id: int, base_offset: int, log_append_time_ms: int, log_start_offset: int
    ) -> bytes:
        """The answer as bytes, header and body."""
        return self._pack(
            correlation_id, self.beginning, base_offset, log_append_time_ms, log_start_offset, self.ending
        )


class _Acknowledgement:
    """An answer that waits for the disk, and for nothing else; `Parked` waits for it as for a future."""

    __slots__ = (
        "_appended",
        "_callback",
        "_correlation_id",
        "_error_code",
        "_is_done",
        "_remembered",
        "_version",
        "_waiting",
        "deadline_ms",
    )

    def __init__(
        self,
        broker: BrokerServices,
        remembered: _Remembered,
        version: int,
        correlation_id: int,
        appended: AppendResult,
    ) -> None:
        self.deadline_ms = broker.clock.monotonic_ms() + remembered.timeout_ms
        self._waiting = broker.waiting
        self._remembered = remembered
        self._version = version
        self._correlation_id = correlation_id
        self._appended = appended
        self._is_done = False
        self._error_code = 0
        self._callback: Callable[[_Acknowledgement], None] | None = None

    def park(self) -> Parked:
        """Holds the answer's place in its connection."""
        self._waiting.produce_count += 1
        self._waiting.patience.add(self)
        return Parked(self, _Acknowledgement.encode)

    def done(self) -> bool:
        """Whether the answer can leave."""
        return self._is_done

    def add_done_callback(self, callback: Callable[[_Acknowledgement], None]) -> None:
        """Whom to tell; there is one."""
        self._callback = callback

    def settle(self, error: KafkaError | StorageError | None) -> None:
        """The disk has the batch, or failed."""
        if error is None:
            self._finish(0)
        else:
            self._finish(error.code if isinstance(error, KafkaError) else ErrorCode.KAFKA_STORAGE_ERROR)

    def expire(self) -> None:
        """The client does not want to wait longer."""
        self._finish(ErrorCode.REQUEST_TIMED_OUT)

    def _finish(self, error_code: int) -> None:
        if self._is_done:
            return
        self._is_done = True
        self._error_code = error_code
        self._waiting.produce_count -= 1
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(self)

    def encode(self) -> bytes:
        """The answer, header and body."""
        if self._error_code == 0:
            appended = self._appended
            return self._remembered.encode(
                self._correlation_id,
                appended.first_offset,
                appended.log_append_time_ms,
                appended.log_start_offset,
            )
        response = self._remembered.response(-1, -1, -1)
        response.responses[0].partition_responses[0].error_code = self._error_code
        header = encode_response_header(produce.API_KEY, self._version, self._correlation_id)
        return header + response.encode(self._version)


class RepeatedProduces:
    """What one connection remembers of its produce requests.

    Attributes:
        version: The version in which they come.
        request_count: Of the broker's produce requests in this version.
    """

    __slots__ = ("_broker", "_head", "_places", "_remembered_count", "request_count", "version")

    def __init__(self, broker: BrokerServices, version: int, request_count: Counter) -> None:
        self.version = version
        self.request_count = request_count
        self._broker = broker
        self._head = produce.API_KEY << 16 | version
        # Where the size of the batch stands -> the bytes from the client's id up to there -> what they meant.
        self._places: dict[int, dict[bytes, _Remembered]] = {}
        self._remembered_count = 0

    def remember(self, frame: memoryview, client_id: str | None, request: ProduceRequest) -> None:
        """Notes a request that was answered without an error, if it is of the kind."""
        if self._remembered_count >= REMEMBERED_MAX or not self._is_of_the_kind(request):
            return
        records = request.topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview)
        end = len(frame)
        if self.version < _FLEXIBLE_FROM:
            batch_at = end - len(records) - 4
        else:
            batch_at = end - len(_NO_TAGS) - len(records) - _varint_size(len(records) + 1)
        if self._batch(frame, batch_at) == records:
            places = self._places.setdefault(batch_at, {})
            beginning = bytes(frame[_BEGINNING_AT:batch_at])
            if beginning not in places:  # else it is there, and was refused this time
                places[beginning] = _Remembered(self._broker, client_id, request, self.version)
                self._remembered_count += 1

    def _is_of_the_kind(self, request: ProduceRequest) -> bool:
        """Whether it is of one batch, has an answer, and needs none of the checks that only the ordinary way makes."""
        topics = request.topic_data
        if (
            self.version < _FIRST_VERSION
            or request.acks not in (1, -1)
            or request.transactional_id is not None
        ):
            return False
        if len(topics) != 1 or len(topics[0].partition_data) != 1:
            return False
        topic = topics[0]
        if not isinstance(topic.partition_data[0].records, memoryview):
            return False
        name = topic.name
        if self.version >= _TOPIC_IDS_FROM:
            try:
                name = self._broker.replicas.leader_by_id(topic.topic_id, topic.partition_data[0].index).topic
            except KafkaError:
                return False
        return name not in INTERNAL_TOPICS

    def _batch(self, frame: memoryview, batch_at: int) -> memoryview | None:
        """The batch that is all that follows, and whose size stands at `batch_at`; None if it is not like that."""
        end = len(frame)
        if self.version < _FLEXIBLE_FROM:
            start = batch_at + 4
            if start > end or _unpack_size(frame, batch_at)[0] != end - start:
                return None
            return frame[start:]
        end -= 3
        if batch_at + 3 > end or frame[end:] != _NO_TAGS:
            return None
        # Unsigned varint of the size and one, of up to three bytes: what is bigger takes the ordinary way.
        size = frame[batch_at]
        start = batch_at + 1
        if size & 0x80:
            following = frame[start]
            size = size & 0x7F | following << 7
            start += 1
            if following & 0x80:
                size = size & 0x3FFF | frame[start] << 14
                start += 1
        if size - 1 != end - start:
            return None
        return frame[start:end]

    def answer(
        self, connection: ConnectionContext, frame: memoryview
    ) -> bytes | Parked | tuple[RequestContext, ProduceResponse] | None:
        """The answer, or the request's context and an answer that is not encoded yet.

        None if the request has to take the ordinary way. Nothing has been changed then.
        """
        if len(frame) < _SHORTEST:
            return None
        head, correlation_id = _unpack_head(frame)
        if head != self._head:
            return None
        for batch_at, places in self._places.items():
            remembered = places.get(bytes(frame[_BEGINNING_AT:batch_at]))
            if remembered is not None:
                records = self._batch(frame, batch_at)
                if records is not None:
                    return self._append(connection, remembered, correlation_id, records)
        return None

    def _append(
        self, connection: ConnectionContext, remembered: _Remembered, correlation_id: int, records: memoryview
    ) -> bytes | Parked | tuple[RequestContext, ProduceResponse] | None:
        broker = self._broker
        version = self.version
        acks = remembered.acks
        try:
            if version >= _TOPIC_IDS_FROM:
                partition = broker.replicas.leader_by_id(remembered.topic_id, remembered.index)
            else:
                partition = broker.replicas.leader(remembered.topic, remembered.index)
            appended = partition.append(records, acks, broker.clock.now_ms(), version)
            parked = None
            if partition.has_to_wait(acks):
                waits = _Acknowledgement(broker, remembered, version, correlation_id, appended)
                if partition.call_when_committed(appended.last_offset, acks, waits.settle, waits.done):
                    parked = waits.park()
        except KafkaError:
            # Nothing was changed, so that the ordinary way meets the same error, and knows what to do about it.
            return None
        except StorageError as error:
            partition.metrics.produce_requests.value += 1
            context = remembered.context(version, correlation_id, connection)
            return context, produce.refuse_batch(
                broker, context, remembered.topic_data(records), partition, error
            )
        first_offset = appended.first_offset
        metrics = partition.metrics
        metrics.produce_requests.value += 1
        if not appended.duplicate:
            metrics.messages_in.value += appended.last_offset - first_offset + 1
            metrics.bytes_in.value += len(records)
        return parked or remembered.encode(
            correlation_id, first_offset, appended.log_append_time_ms, appended.log_start_offset
        )


def _varint_size(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))
