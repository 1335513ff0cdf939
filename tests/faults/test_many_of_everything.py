"""Many connections and many partitions: everybody is served, and none of them costs much."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import sys
import time

import pytest

from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.produce import ProduceResponse
from tests.broker_process import BrokerProcess
from tests.faults.test_failing_disk import code_of, read
from tests.faults.test_hostile_clients import harmed_nobody, resident_bytes
from tests.topic_requests import create_topics, fetch, produce
from tests.wire_client import WireClient

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory is read from /proc"),
]

IDLE_CONNECTIONS = 5000
IDLE_CONNECTION_BYTES_MAX = 15_000
AT_ONCE = 25
BUSY_CONNECTIONS = 500
BUSY_ROUNDS = 6
SLOW_CONNECTIONS = 40
TOPICS = 1000
PARTITIONS = 10
PARTITION_BYTES_MAX = 8_000
DEADLINE_S = 240


@contextlib.contextmanager
def open_files(count):
    """This process may open so many files meanwhile."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"this user may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def frame_of(request, version, correlation_id=1):
    body = request.encode(version)
    header = struct.pack(">hhih", type(request).API_KEY, version, correlation_id, 1) + b"m"
    return struct.pack(">i", len(header) + len(body)) + header + body


def connect(broker):
    sock = socket.create_connection(("127.0.0.1", broker.port), 60)
    sock.setblocking(False)
    return sock


def test_five_thousand_idle_connections(broker):
    """Clients that have asked something once and say nothing more cost little memory, and others do not notice."""
    with open_files(2 * IDLE_CONNECTIONS), contextlib.ExitStack() as stack, harmed_nobody(broker) as serve:
        question = frame_of(MetadataRequest(topics=[]), 4)
        sockets = []
        before = resident_bytes(broker)
        for _ in range(IDLE_CONNECTIONS // AT_ONCE):
            # Fewer than wait in the listen backlog: the kernel makes those behind it try again after a second.
            for _ in range(AT_ONCE):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), 60))
                sock.sendall(question)
                sockets.append(sock)
            for sock in sockets[-AT_ONCE:]:
                assert sock.recv(4), "a connection was closed"
            if len(sockets) % 1000 == 0:
                serve()
        each = (resident_bytes(broker) - before) / IDLE_CONNECTIONS
        assert each < IDLE_CONNECTION_BYTES_MAX, f"{each:.0f} bytes each"
        serve()


class Speaker:
    """A client on a non-blocking socket that says something, takes the answer, and so on.

    Attributes:
        answers: The answers so far, without their lengths.
    """

    def __init__(self, sock, questions, *, sends_at_once=1 << 20, reads_at_once=1 << 20):
        self.socket = sock
        self.answers = []
        self._questions = list(questions)
        self._unsent = memoryview(self._questions.pop(0))
        self._unread = bytearray()
        self._sends_at_once = sends_at_once
        self._reads_at_once = reads_at_once

    @property
    def is_done(self):
        return not self._questions and self._unsent is None

    @property
    def events(self):
        return selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ

    def move(self):
        """Does one thing."""
        with contextlib.suppress(BlockingIOError):
            if self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent[: self._sends_at_once]) :]
                return
            data = self.socket.recv(self._reads_at_once)
            assert data, "the connection was closed"
            self._unread += data
            if len(self._unread) >= 4 and len(self._unread) == 4 + struct.unpack_from(">i", self._unread)[0]:
                self.answers.append(bytes(self._unread[4:]))
                self._unread.clear()
                self._unsent = memoryview(self._questions.pop(0)) if self._questions else None


def let_speak(speakers, deadline_s=DEADLINE_S):
    """Until all are done, each doing one thing in turn."""
    end = time.monotonic() + deadline_s
    with selectors.DefaultSelector() as selector:
        for speaker in speakers:
            selector.register(speaker.socket, speaker.events, speaker)
        while selector.get_map():
            assert time.monotonic() < end, f"{len(selector.get_map())} of {len(speakers)} are not done"
            for key, _ in selector.select(1):
                speaker = key.data
                speaker.move()
                if speaker.is_done:
                    selector.unregister(speaker.socket)
                elif speaker.events != key.events:
                    selector.modify(speaker.socket, speaker.events, speaker)


def test_five_hundred_busy_connections(broker):
    """All who write at the same time get all their answers, and what was acknowledged is there, once."""
    with open_files(3 * BUSY_CONNECTIONS), contextlib.ExitStack() as stack, harmed_nobody(broker) as serve:
        with WireClient(broker.bootstrap_server) as client:
            client.call(create_topics(["busy"], PARTITIONS), 5)
        speakers = []
        for number in range(BUSY_CONNECTIONS):
            questions = [
                frame_of(produce("busy", number % PARTITIONS, b"%d:%d" % (number, turn)), 8, turn)
                for turn in range(BUSY_ROUNDS)
            ]
            speakers.append(Speaker(stack.enter_context(connect(broker)), questions))
        let_speak(speakers)
        for speaker in speakers:
            for turn, answer in enumerate(speaker.answers):
                assert int.from_bytes(answer[:4]) == turn
                response = ProduceResponse.decode(answer, 8, 4)
                assert code_of(response) == 0
        serve()
        with WireClient(broker.bootstrap_server) as client:
            for partition in range(PARTITIONS):
                found = read(client, "busy", partition)
                writers = range(partition, BUSY_CONNECTIONS, PARTITIONS)
                expected = {b"%d:%d" % (writer, turn) for writer in writers for turn in range(BUSY_ROUNDS)}
                assert len(found) == len(expected)
                assert set(found) == expected


def test_slow_readers_and_slow_writers(broker):
    """Clients that send or take a few bytes at a time get what they asked for, and others do not wait for them."""
    with WireClient(broker.bootstrap_server) as client:
        client.call(create_topics(["big", "slow"], 1), 5)
        for _ in range(4):
            assert code_of(client.call(produce("big", 0, b"x" * 100_000), 8)) == 0
    with contextlib.ExitStack() as stack, harmed_nobody(broker) as serve:
        speakers = []
        for number in range(SLOW_CONNECTIONS):
            writing = frame_of(produce("slow", 0, b"%d " % number + bytes(2000)), 8)
            speakers.append(Speaker(stack.enter_context(connect(broker)), [writing], sends_at_once=40))
            reader = stack.enter_context(connect(broker))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            speakers.append(Speaker(reader, [frame_of(fetch("big", 0, 0), 11)], reads_at_once=4000))
        for _ in range(20):
            for speaker in speakers:
                if not speaker.is_done:
                    speaker.move()
        assert not any(speaker.is_done for speaker in speakers)
        serve()
        let_speak(speakers)
        readers = speakers[1::2]
        assert all(len(speaker.answers[0]) > 400_000 for speaker in readers)
        with WireClient(broker.bootstrap_server) as client:
            numbers = sorted(int(value.split()[0]) for value in read(client, "slow", 0))
        assert numbers == list(range(SLOW_CONNECTIONS))


def test_ten_thousand_partitions(tmp_path):
    """They are made, named, written, read, found again after a restart and deleted, and each costs little memory."""
    chance = random.Random(10_000)
    names = [f"many-{number:04}" for number in range(TOPICS)]
    with BrokerProcess(tmp_path) as broker:
        with WireClient(broker.bootstrap_server, timeout_s=DEADLINE_S) as client:
            client.call(MetadataRequest(topics=None), 9)
            before = resident_bytes(broker)
            for half in (
                names[: TOPICS // 2],
                names[TOPICS // 2 :],
            ):  # a request may make 10,000 records of metadata
                created = client.call(create_topics(half, PARTITIONS), 5)
                assert {topic.error_code for topic in created.topics} == {0}
            each = (resident_bytes(broker) - before) / (TOPICS * PARTITIONS)
            assert each < PARTITION_BYTES_MAX, f"{each:.0f} bytes each"
            chosen = [(chance.choice(names), chance.randrange(PARTITIONS)) for _ in range(300)]
            written = {}
            for number, place in enumerate(chosen):
                assert code_of(client.call(produce(*place, b"%d" % number), 8)) == 0
                written.setdefault(place, []).append(b"%d" % number)
        assert broker.stop() == 0
        broker.start()
        with WireClient(broker.bootstrap_server, timeout_s=DEADLINE_S) as client:
            topics = client.call(MetadataRequest(topics=None), 9).topics
            assert sorted(topic.name for topic in topics) == names
            assert sum(len(topic.partitions) for topic in topics) == TOPICS * PARTITIONS
            for place, values in written.items():
                assert read(client, *place) == values
            deleted = client.call(DeleteTopicsRequest(topic_names=names, timeout_ms=60_000), 5)
            assert {topic.error_code for topic in deleted.responses} == {0}
            assert client.call(MetadataRequest(topics=None), 9).topics == []
    assert "Traceback" not in broker.log_path.read_text()
