"""Requests as bytes, made by the package's own codecs, and a load generator in Python for machines without a C compiler.

The generator has the modes of `generator.c` and gives the same figures; it only costs more.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from barnabas.wire.messages.produce import ProduceRequest
from bench.brokers import cpu_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LENGTH = struct.Struct(">i")
_CORRELATION_ID_AT = 8
_PARTITION_STRIDE = 28
_FETCH_HEADER = struct.Struct(">ihqqqi")
_SILENCE_S = 60


# Requests.


def frame(api_key: int, version: int, message, *, flexible: bool, correlation_id: int = 1) -> bytes:
    """A whole request frame."""
    header = (
        struct.pack(">hhih", api_key, version, correlation_id, 5) + b"bench" + (b"\0" if flexible else b"")
    )
    body = message.encode(version)
    return _LENGTH.pack(len(header) + len(body)) + header + body


def produce_frame(
    topic: str, partition: int, *, records: int, size_bytes: int, acks: int = -1, batch: bytes | None = None
) -> bytes:
    """A Produce 7 request of one batch: the given one, or `records` records with values of `size_bytes` bytes."""
    if batch is None:
        value = (b"0123456789abcdef" * (size_bytes // 16 + 1))[:size_bytes]
        now_ms = int(time.time() * 1000)
        batch = bytes(build_batch([Record(i, now_ms, None, value, ()) for i in range(records)]))
    request = ProduceRequest(
        transactional_id=None,
        acks=acks,
        timeout_ms=30_000,
        topic_data=[
            ProduceRequest.TopicProduceData(
                name=topic,
                partition_data=[ProduceRequest.PartitionProduceData(index=partition, records=batch)],
            )
        ],
    )
    return frame(0, 7, request, flexible=False)


def produce_error_at(topic: str) -> int:
    """Where the answer to `produce_frame` has its error code, after its size."""
    return 4 + 4 + 2 + len(topic) + 4 + 4


def fetch_frame(topic: str, partitions: int, *, partition_bytes: int) -> bytes:
    """A Fetch 11 request of all partitions from offset 0, with the limits of the usual clients but for `partition_bytes`."""
    request = FetchRequest(
        replica_id=-1,
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=50 << 20,
        isolation_level=0,
        session_id=0,
        session_epoch=-1,
        topics=[
            FetchRequest.FetchTopic(
                topic=topic,
                partitions=[
                    FetchRequest.FetchPartition(
                        partition=partition, fetch_offset=0, partition_max_bytes=partition_bytes
                    )
                    for partition in range(partitions)
                ],
            )
        ],
        forgotten_topics_data=[],
        rack_id="",
    )
    return frame(1, 11, request, flexible=False)


def fetch_partitions_at(topic: str) -> int:
    """Where `fetch_frame` has its first partition."""
    header = 4 + 8 + 2 + len("bench")
    return header + 4 + 4 + 4 + 4 + 1 + 4 + 4 + 4 + 2 + len(topic) + 4


# One at a time.


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(_SILENCE_S * 2)
    return connection


def receive(connection: socket.socket) -> bytes:
    """One answer, without its length."""
    return exactly(connection, _LENGTH.unpack(exactly(connection, 4))[0])


def exactly(connection: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    filled = 0
    while filled < size:
        got = connection.recv_into(view[filled:])
        if not got:
            raise ConnectionError("the broker closed the connection")
        filled += got
    return bytes(buffer)


def ask(port: int, request: bytes) -> bytes:
    """One answer on a connection of its own."""
    with connect(port) as connection:
        connection.sendall(request)
        return receive(connection)


def create_topic(port: int, name: str, partitions: int, **configs: str) -> None:
    """Creates a topic and waits until its partitions can be written and read; it stays empty."""
    create_topics(port, [name], partitions, **configs)
    wait_until_led(port, [name], partitions)


def create_topics(port: int, names: list[str], partitions: int, **configs: str) -> None:
    errors = try_create_topics(port, names, partitions, **configs)
    assert not any(errors), errors


def try_create_topics(port: int, names: list[str], partitions: int, **configs: str) -> list[int]:
    """The error codes of CreateTopics."""
    request = create_request(names, partitions, 1, **configs)
    response = CreateTopicsResponse.decode(ask(port, frame(19, 5, request, flexible=True)), 5, 5)
    return [topic.error_code for topic in response.topics]


def create_request(
    names: Sequence[str],
    partitions: int,
    replicas: int,
    assignments: Sequence[Sequence[int]] = (),
    **configs: str,
) -> CreateTopicsRequest:
    """For topics of so many partitions and replicas, or with a partition on each of `assignments`."""
    return CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(
                name=name,
                num_partitions=-1 if assignments else partitions,
                replication_factor=-1 if assignments else replicas,
                assignments=[
                    CreateTopicsRequest.CreatableReplicaAssignment(
                        partition_index=index, broker_ids=list(assignment)
                    )
                    for index, assignment in enumerate(assignments)
                ],
                configs=[
                    CreateTopicsRequest.CreatableTopicConfig(name=key.replace("_", "."), value=value)
                    for key, value in configs.items()
                ],
            )
            for name in names
        ],
        timeout_ms=120_000,
    )


def ends_request(partitions: Mapping[str, Iterable[int]]) -> ListOffsetsRequest:
    """Asks where these partitions end, by topic."""
    return ListOffsetsRequest(
        replica_id=-1,
        isolation_level=0,
        topics=[
            ListOffsetsRequest.ListOffsetsTopic(
                name=topic,
                partitions=[
                    ListOffsetsRequest.ListOffsetsPartition(
                        partition_index=index, current_leader_epoch=-1, timestamp=-1
                    )
                    for index in indexes
                ],
            )
            for topic, indexes in partitions.items()
        ],
    )


def wait_until_led(port: int, topics: list[str], partitions: int) -> list[int]:
    """Kafka makes partitions after its answer: waits until all answer ListOffsets; gives their ends in order."""
    probe = frame(2, 4, ends_request(dict.fromkeys(topics, range(partitions))), flexible=False)
    deadline = time.monotonic() + 120
    with connect(port) as connection:
        while True:
            connection.sendall(probe)
            response = ListOffsetsResponse.decode(receive(connection), 4, 4)
            # Kafka answers in an order of its own.
            found = {
                (topic.name, partition.partition_index): partition
                for topic in response.topics
                for partition in topic.partitions
            }
            if not any(partition.error_code for partition in found.values()):
                return [found[topic, partition].offset for topic in topics for partition in range(partitions)]
            assert time.monotonic() < deadline, response
            time.sleep(0.01)


def delete_topic(port: int, name: str) -> None:
    message = DeleteTopicsRequest(topic_names=[name], timeout_ms=60_000)
    ask(port, frame(20, 3, message, flexible=False))


# The generator of generator.c, in Python.


class _Window:
    """Warm-up, measurement, end; counts what falls into the measurement."""

    def __init__(
        self, broker, warm_s: float, seconds: float, warm_bytes: int = 0, total_bytes: int = 0
    ) -> None:
        self.broker = broker
        self.phases = [(warm_s, warm_bytes), (seconds, total_bytes)]
        self.phase = 0
        self.started = time.perf_counter()
        self.requests = self.bytes = 0
        self.latencies: list[float] = []
        self.cpu = (0.0, 0.0)
        self.seconds = 0.0

    @property
    def ended(self) -> bool:
        return self.phase == 2

    def look_at_clock(self, now: float) -> None:
        while self.phase < 2:
            seconds, total_bytes = self.phases[self.phase]
            age = now - self.started
            if age < seconds and not (total_bytes and self.bytes >= total_bytes):
                return
            if self.phase == 1 and not self.requests and age < _SILENCE_S:
                return  # without an answer there is nothing to divide by
            cpu = (cpu_s(self.broker.pid), time.process_time())
            if self.phase == 0:
                self.started, self.requests, self.bytes, self.cpu = now, 0, 0, cpu
                self.latencies.clear()
            else:
                self.seconds = now - self.started
                self.cpu = (cpu[0] - self.cpu[0], cpu[1] - self.cpu[1])
            self.phase += 1

    def figures(self) -> dict[str, float]:
        latencies = sorted(self.latencies) or [0.0]
        found = {"seconds": self.seconds, "requests": self.requests, "bytes": self.bytes}
        found |= {"broker_cpu_s": self.cpu[0], "own_cpu_s": self.cpu[1], "samples": len(self.latencies)}
        for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)):
            found[name] = latencies[int(len(latencies) * part)] * 1000
        return found | {"max_ms": latencies[-1] * 1000}


def pump(
    broker,
    frames: list[bytes],
    *,
    connections: int,
    depth: int,
    warm_s: float,
    seconds: float,
    warm_bytes: int,
    bytes: int,  # noqa: A002 - the option's name
    error_at: int,
) -> dict[str, float]:
    window = _Window(broker, warm_s, seconds, warm_bytes, bytes)
    poll = select.epoll()
    senders = {}
    for index in range(connections):
        connection = connect(broker.port)
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN | select.EPOLLOUT)
        senders[connection.fileno()] = _Sender(
            connection, frames[index % len(frames)], depth, window, error_at
        )
    while not window.ended or any(sender.sent_at for sender in senders.values()):
        ready = poll.poll(_SILENCE_S)
        if not ready:
            raise TimeoutError(f"no answer for {_SILENCE_S} s")
        window.look_at_clock(time.perf_counter())
        for descriptor, events in ready:
            sender = senders[descriptor]
            if events & select.EPOLLIN:
                sender.read()
            waits = sender.write()
            if waits != sender.waits_for_room:
                sender.waits_for_room = waits
                poll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if waits else 0))
    poll.close()
    for sender in senders.values():
        sender.connection.close()
    return window.figures()


class _Sender:
    def __init__(
        self, connection: socket.socket, request: bytes, depth: int, window: _Window, error_at: int
    ) -> None:
        self.connection = connection
        self.request = request
        self.depth = depth
        self.window = window
        self.error_at = error_at
        self.rest = memoryview(b"")
        self.buffer = bytearray(1 << 18)
        self.kept = 0
        self.sent_at: list[float] = []
        self.waits_for_room = True

    def write(self) -> bool:
        """Sends as many as may be under way; True while the socket has no room."""
        while True:
            if not self.rest:
                room = self.depth - len(self.sent_at)
                if room <= 0 or self.window.ended:
                    return False
                room = max(1, min(room, (1 << 20) // len(self.request)))
                self.rest = memoryview(self.request * room)
                self.sent_at.extend([time.perf_counter()] * room)
            try:
                sent = self.connection.send(self.rest)
            except BlockingIOError:
                return True
            self.rest = self.rest[sent:]

    def read(self) -> None:
        got = self.connection.recv_into(memoryview(self.buffer)[self.kept :])
        if not got:
            raise ConnectionError("the broker closed the connection")
        end = self.kept + got
        now = time.perf_counter()
        position = answered = 0
        while end - position >= 4:
            size = 4 + _LENGTH.unpack_from(self.buffer, position)[0]
            if size > len(self.buffer):
                self.buffer.extend(bytes(size))
            if end - position < size:
                break
            if self.error_at >= 0:
                at = position + 4 + self.error_at
                assert self.buffer[at : at + 2] == b"\0\0", self.buffer[position : position + size]
            position += size
            answered += 1
        if not self.window.ended:
            self.window.latencies.extend(now - sent_at for sent_at in self.sent_at[:answered])
            self.window.requests += answered
            self.window.bytes += answered * len(self.request)
        del self.sent_at[:answered]
        self.buffer[: end - position] = self.buffer[position:end]
        self.kept = end - position


def fetch(
    broker, frames: list[bytes], *, partitions: int, partitions_at: int, warm_s: float, seconds: float
) -> dict[str, float]:
    request = bytearray(frames[0])
    offsets = dict.fromkeys(range(partitions), 0)
    view = memoryview(bytearray(128 << 20))
    window = _Window(broker, warm_s, seconds)
    with connect(broker.port) as connection:
        while not window.ended:
            for index, (partition, offset) in enumerate(offsets.items()):
                at = partitions_at + index * _PARTITION_STRIDE
                struct.pack_into(">i4xq", request, at, partition, offset)
            sent_at = time.perf_counter()
            connection.sendall(request)
            size = _LENGTH.unpack(exactly(connection, 4))[0]
            filled = 0
            while filled < size:
                filled += connection.recv_into(view[filled:size])
            got = _take_fetched(view[:size], offsets)
            now = time.perf_counter()
            window.requests += 1
            window.bytes += got
            window.latencies.append(now - sent_at)
            window.look_at_clock(now)
    return window.figures()


def _take_fetched(answer: memoryview, offsets: dict[int, int], *, again: bool = True) -> int:
    # Walks a Fetch 11 answer with one topic: only headers are looked at.
    position = 4 + 4
    assert answer[position : position + 2] == b"\0\0"
    position += 2 + 4
    if not _LENGTH.unpack_from(answer, position)[0]:
        return 0
    position += 4
    position += 2 + int.from_bytes(answer[position : position + 2], "big")
    count = _LENGTH.unpack_from(answer, position)[0]
    position += 4
    total = 0
    for _ in range(count):
        partition, error, high_watermark, _, _, aborted = _FETCH_HEADER.unpack_from(answer, position)
        assert error == 0, error
        position += _FETCH_HEADER.size + 16 * max(aborted, 0) + 4
        size = max(_LENGTH.unpack_from(answer, position)[0], 0)
        position += 4
        end = position + size
        offset = offsets[partition]
        while end - position >= 61:
            length = 12 + _LENGTH.unpack_from(answer, position + 8)[0]
            if end - position < length:
                break
            base = int.from_bytes(answer[position : position + 8], "big")
            offset = base + _LENGTH.unpack_from(answer, position + 23)[0] + 1
            position += length
            total += length
        position = end
        if size:
            # Who had an answer queues at the end, as in the clients, so that a limit of the answer starves nobody.
            del offsets[partition]
        offsets[partition] = 0 if again and offset >= high_watermark else offset
    return total


def endtoend(
    broker, frames: list[bytes], *, partitions_at: int, rate: float, warm_s: float, seconds: float
) -> dict[str, float]:
    produce, ask_for = frames[0], bytearray(frames[1])
    window = _Window(broker, warm_s, seconds)
    due: list[float] = []
    offsets = {0: 0}
    kept = bytearray()
    with connect(broker.port) as producer, connect(broker.port) as consumer:
        started = time.perf_counter()
        consumer.sendall(ask_for)
        while not window.ended:
            now = time.perf_counter()
            window.look_at_clock(now)
            while started + len(due) / rate <= now:
                due.append(started + len(due) / rate)
                producer.sendall(produce)
            wait_s = max(0.0, started + len(due) / rate - time.perf_counter())
            ready = select.select([producer, consumer], [], [], wait_s)[0]
            if producer in ready:
                assert producer.recv(65536), "the producer's connection ended"
            if consumer not in ready:
                continue
            piece = consumer.recv(1 << 20)
            assert piece, "the consumer's connection ended"
            kept += piece
            if len(kept) < 4 or len(kept) < 4 + _LENGTH.unpack_from(kept)[0]:
                continue
            first = offsets[0]
            window.bytes += _take_fetched(memoryview(bytes(kept))[4:], offsets, again=False)
            kept.clear()
            now = time.perf_counter()
            window.latencies.extend(now - due[offset] for offset in range(first, offsets[0]))
            window.requests += offsets[0] - first
            struct.pack_into(">q", ask_for, partitions_at + 8, offsets[0])
            consumer.sendall(ask_for)
    return window.figures()
