"""A raw socket generator that pipelines: prepared frames out, answers counted, as little as possible between.

It has no client library's cost, so that what it measures is the broker. Frames are made by the package's own codecs.
"""

from __future__ import annotations

import select
import socket
import struct
import time

from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.produce import ProduceRequest

_LENGTH = struct.Struct(">i")


def frame(api_key: int, version: int, message, *, flexible: bool, correlation_id: int = 1) -> bytes:
    """A whole request frame."""
    header = (
        struct.pack(">hhih", api_key, version, correlation_id, 5) + b"bench" + (b"\0" if flexible else b"")
    )
    body = message.encode(version)
    return _LENGTH.pack(len(header) + len(body)) + header + body


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket) -> bytes:
    """One answer, without its length."""
    want = _LENGTH.unpack(_exactly(connection, 4))[0]
    return _exactly(connection, want)


def _exactly(connection: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    filled = 0
    while filled < size:
        got = connection.recv_into(view[filled:])
        if not got:
            raise ConnectionError("the broker closed the connection")
        filled += got
    return bytes(buffer)


def create_topic(port: int, name: str, partitions: int, **configs: str) -> None:
    request = CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(
                name=name,
                num_partitions=partitions,
                replication_factor=1,
                assignments=[],
                configs=[
                    CreateTopicsRequest.CreatableTopicConfig(name=key.replace("_", "."), value=value)
                    for key, value in configs.items()
                ],
            )
        ],
        timeout_ms=30_000,
    )
    with connect(port) as connection:
        connection.sendall(frame(19, 5, request, flexible=True))
        answer = receive(connection)
        response = CreateTopicsResponse.decode(answer, 5, 5)
        assert response.topics[0].error_code == 0, response
    # Kafka creates in the background: wait until the partitions lead.
    deadline = time.monotonic() + 60
    probe = produce_frame(name, partitions - 1, records=1, size_bytes=1)
    while True:
        with connect(port) as connection:
            connection.sendall(probe)
            answer = receive(connection)
        if answer[4 + 4 + 2 + len(name) + 4 + 4 :][:2] == b"\0\0":
            return
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


def produce_frame(topic: str, partition: int, *, records: int, size_bytes: int, acks: int = 1) -> bytes:
    """A Produce 7 request of one batch of `records` records with values of `size_bytes` bytes."""
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


def pump(
    port: int, frames: list[bytes], count: int, *, connections: int, depth: int
) -> tuple[float, list[float]]:
    """Sends `count` requests over `connections`, at most `depth` under way on each; gives seconds and latencies (s)."""
    poll = select.epoll()
    states = {}
    per_connection = count // connections
    for index in range(connections):
        connection = connect(port)
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN | select.EPOLLOUT)
        states[connection.fileno()] = _Sender(connection, frames[index % len(frames)], per_connection, depth)
    latencies: list[float] = []
    started = time.perf_counter()
    open_count = connections
    while open_count:
        for descriptor, events in poll.poll():
            sender = states[descriptor]
            if events & select.EPOLLIN and sender.read(latencies):
                poll.unregister(descriptor)
                sender.connection.close()
                open_count -= 1
                continue
            writable = sender.write()
            if writable != sender.waits_for_room:
                sender.waits_for_room = writable
                poll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if writable else 0))
    elapsed = time.perf_counter() - started
    poll.close()
    return elapsed, latencies


class _Sender:
    def __init__(self, connection: socket.socket, request: bytes, count: int, depth: int) -> None:
        self.connection = connection
        self.request = request
        self.unsent = count
        self.unanswered = count
        self.depth = depth
        self.rest = memoryview(b"")
        self.buffer = bytearray(1 << 18)
        self.kept = 0
        self.sent_at: list[float] = []
        self.answered = 0
        self.waits_for_room = True

    def write(self) -> bool:
        """Sends as many as may be under way; True while the socket has no room."""
        while True:
            if not self.rest:
                room = min(self.depth - (len(self.sent_at) - self.answered), self.unsent)
                if room <= 0:
                    return False
                if len(self.request) * room > 1 << 20:
                    room = max(1, (1 << 20) // len(self.request))
                self.rest = memoryview(self.request * room)
                self.unsent -= room
                self.sent_at.extend([time.perf_counter()] * room)
            try:
                sent = self.connection.send(self.rest)
            except BlockingIOError:
                return True
            self.rest = self.rest[sent:]

    def read(self, latencies: list[float]) -> bool:
        """Counts answers; True after the last."""
        got = self.connection.recv_into(memoryview(self.buffer)[self.kept :])
        if not got:
            raise ConnectionError("the broker closed the connection")
        end = self.kept + got
        now = time.perf_counter()
        position = 0
        while end - position >= 4:
            size = 4 + _LENGTH.unpack_from(self.buffer, position)[0]
            if end - position < size:
                break
            position += size
            latencies.append(now - self.sent_at[self.answered])
            self.answered += 1
            self.unanswered -= 1
        self.buffer[: end - position] = self.buffer[position:end]
        self.kept = end - position
        return self.unanswered == 0


def fetch_all(port: int, topic: str, partitions: int, total_bytes: int) -> float:
    """Fetches all partitions from the start until `total_bytes` came, on one connection; gives seconds."""
    offsets = dict.fromkeys(range(partitions), 0)
    scratch = bytearray(64 << 20)
    view = memoryview(scratch)
    got_bytes = 0
    started = time.perf_counter()
    with connect(port) as connection:
        while got_bytes < total_bytes:
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
                                partition=partition, fetch_offset=offset, partition_max_bytes=8 << 20
                            )
                            for partition, offset in offsets.items()
                        ],
                    )
                ],
                forgotten_topics_data=[],
                rack_id="",
            )
            connection.sendall(frame(1, 11, request, flexible=False))
            size = _LENGTH.unpack(_exactly(connection, 4))[0]
            filled = 0
            while filled < size:
                filled += connection.recv_into(view[filled:size])
            got_bytes += _advance(view[:size], offsets)
    return time.perf_counter() - started


def _advance(answer: memoryview, offsets: dict[int, int]) -> int:
    # Walks a Fetch 11 answer with one topic: only headers are looked at.
    position = 4 + 4 + 2 + 4 + 4
    position += 2 + int.from_bytes(answer[position : position + 2], "big")
    count = int.from_bytes(answer[position : position + 4], "big")
    position += 4
    total = 0
    for _ in range(count):
        partition = int.from_bytes(answer[position : position + 4], "big")
        error = int.from_bytes(answer[position + 4 : position + 6], "big")
        assert error == 0, error
        position += 4 + 2 + 8 + 8 + 8
        aborted = int.from_bytes(answer[position : position + 4], "big", signed=True)
        position += 4 + 16 * max(aborted, 0) + 4
        size = int.from_bytes(answer[position : position + 4], "big", signed=True)
        position += 4
        end = position + max(size, 0)
        while end - position >= 61:
            length = 12 + int.from_bytes(answer[position + 8 : position + 12], "big")
            if end - position < length:
                break
            base = int.from_bytes(answer[position : position + 8], "big")
            offsets[partition] = base + int.from_bytes(answer[position + 23 : position + 27], "big") + 1
            position += length
            total += length
        position = end
    return total
