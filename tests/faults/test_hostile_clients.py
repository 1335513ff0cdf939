"""Clients that misbehave: the broker's memory stays bounded, and others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from pathlib import Path

import pytest

from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.faults.test_failing_disk import code_of, read
from tests.handlers import node
from tests.topic_requests import create_topics, fetch, produce
from tests.wire_client import WireClient

GROWTH_MAX_BYTES = 120 << 20


def resident_bytes(broker):
    status = Path(f"/proc/{broker.process.pid}/status")
    if not status.exists():
        pytest.skip("there is no /proc here")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def harmed_nobody(broker, extra_bytes=GROWTH_MAX_BYTES):
    """Another client is served before, during and after; gives a function that has it served."""
    with WireClient(broker.bootstrap_server) as client:
        client.call(create_topics(["others"], 1), 5)
        assert code_of(client.call(produce("others", 0, b"before"), 8)) == 0
        before = resident_bytes(broker)
        served = []

        def serve():
            number = b"%d" % len(served)
            assert code_of(client.call(produce("others", 0, number), 8)) == 0
            served.append(number)
            with WireClient(broker.bootstrap_server) as newcomer:
                assert read(newcomer, "others", 0) == [b"before", *served]

        yield serve
        serve()
        grown = resident_bytes(broker) - before
        assert grown < extra_bytes, f"{grown >> 20} MiB more"
    assert "Traceback" not in broker.log_path.read_text()


def drop_from_page_cache(directory):
    if hasattr(os, "posix_fadvise"):
        for path in directory.iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def fill(broker, topic, megabytes):
    with WireClient(broker.bootstrap_server) as client:
        client.call(create_topics([topic], 1), 5)
        for _ in range(megabytes):
            assert code_of(client.call(produce(topic, 0, b"x" * 1_000_000, acks=1), 8)) == 0


def test_a_client_that_never_reads(broker):
    """Answers that nobody takes are not piled up: its requests wait in its own socket."""
    fill(broker, "big", 20)
    with harmed_nobody(broker) as serve, contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(WireClient(broker.bootstrap_server))
            client.socket.setblocking(False)
            request = fetch("big", 0, 0).encode(11)
            header = struct.pack(">hhih", 1, 11, 1, 1) + b"c"
            frame = struct.pack(">i", len(header) + len(request)) + header + request
            with contextlib.suppress(BlockingIOError):
                for _ in range(20_000):
                    client.socket.send(frame)
        for _ in range(5):
            serve()


def test_frames_that_never_end(broker):
    """A claimed length is not memory: three hundred beginnings of frames of fifty megabytes cost next to nothing."""
    with harmed_nobody(broker) as serve, contextlib.ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(WireClient(broker.bootstrap_server))
            client.socket.sendall(struct.pack(">i", 50_000_000) + bytes(1000))
        serve()


def test_big_frames_that_never_end(tmp_path):
    """What is queued of unfinished requests is bounded by queued.max.request.bytes, and the rest waits."""
    with (
        BrokerProcess(tmp_path, settings={"queued.max.request.bytes": str(60 << 20)}) as broker,
        harmed_nobody(broker, 200 << 20) as serve,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(12):
            client = stack.enter_context(WireClient(broker.bootstrap_server))
            client.socket.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                client.socket.sendall(struct.pack(">i", 50_000_000) + bytes(45_000_000))
        serve_when_they_are_gone = stack.pop_all()
        assert resident_bytes(broker) < 500 << 20
        serve_when_they_are_gone.close()
        serve()


def test_thousands_of_requests_in_one_go(broker):
    """Pipelined requests are answered, all and in order."""
    with harmed_nobody(broker) as serve, WireClient(broker.bootstrap_server) as client:
        client.socket.settimeout(60)
        count = 3000
        frames = bytearray()
        body = MetadataRequest(topics=[], allow_auto_topic_creation=False).encode(4)
        for number in range(count):
            header = struct.pack(">hhih", 3, 4, number, 1) + b"c"
            frames += struct.pack(">i", len(header) + len(body)) + header + body
        client.socket.sendall(frames)
        serve()
        for number in range(count):
            assert int.from_bytes(client.receive_frame()[:4]) == number


def test_five_hundred_connections(broker):
    """So many clients at once are no trouble, and gone when they go."""
    with harmed_nobody(broker) as serve, contextlib.ExitStack() as stack:
        for _ in range(500):
            client = stack.enter_context(WireClient(broker.bootstrap_server))
            client.send(MetadataRequest(topics=[]), 4)
        serve()
    descriptors = Path(f"/proc/{broker.process.pid}/fd")
    wait_until(lambda: len(list(descriptors.iterdir())) < 200, what="the end of the connections")


def test_a_flood_from_one_address(tmp_path):
    """Above max.connections.per.ip connections are closed at once; whoever is connected goes on, and places become free again."""
    with BrokerProcess(tmp_path, settings={"max.connections.per.ip": "20"}) as broker:
        with WireClient(broker.bootstrap_server) as client, contextlib.ExitStack() as stack:
            client.call(create_topics(["t"], 1), 5)
            refused = 0
            for _ in range(200):
                other = stack.enter_context(WireClient(broker.bootstrap_server, timeout_s=5))
                with contextlib.suppress(OSError):
                    other.send(MetadataRequest(topics=[]), 4)
                try:
                    other.receive()
                except ConnectionError:
                    refused += 1
            assert refused == 200 - 19
            assert code_of(client.call(produce("t", 0, b"v"), 8)) == 0

        def is_served():
            with WireClient(broker.bootstrap_server) as late, contextlib.suppress(ConnectionError):
                return late.call(MetadataRequest(topics=[]), 4)

        wait_until(is_served, what="a place")


def test_a_consumer_that_wants_everything_at_once(broker):
    """Without limits of its own a fetch gets as much as fetch.max.bytes allows, from the file and not through memory."""
    fill(broker, "big", 80)
    with harmed_nobody(broker) as serve, WireClient(broker.bootstrap_server) as client:
        part = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=2**31 - 1)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=2**31 - 1,
            session_epoch=-1,
            topics=[FetchRequest.FetchTopic(topic="big", partitions=[part])],
        )
        for _ in range(3):
            found = client.call(request, 11).responses[0].partitions[0]
            assert found.error_code == 0
            assert len(found.records) <= 57_671_680
        serve()


@pytest.mark.parametrize("kind", ["of an empty log", "of what had to be read from the disk"])
def test_parked_fetches_of_clients_that_are_gone(tmp_path, kind):
    """A fetch that would wait for weeks goes with its client."""

    async def scenario():
        async with node.running(tmp_path) as one:
            await one.call(create_topics(["t"], 1), 5)
            if kind != "of an empty log":
                for _ in range(200):  # more than are remembered without a look at the file
                    assert code_of(await one.call(produce("t", 0, b"x" * 4000), 8)) == 0
            request = FetchRequest(
                max_wait_ms=2**31 - 1,
                min_bytes=1 << 20,
                max_bytes=1 << 20,
                session_epoch=-1,
                topics=fetch("t", 0, 0).topics,
            )
            body = request.encode(11)
            header = struct.pack(">hhih", 1, 11, 1, 1) + b"c"
            waiting = one.broker._waiting
            for round_number in range(3):
                drop_from_page_cache(tmp_path / "data" / "t-0")
                writers = []
                for _ in range(100):
                    _, writer = await asyncio.open_connection(*one.address)
                    writer.write(struct.pack(">i", len(header) + len(body)) + header + body)
                    writers.append(writer)
                async with asyncio.timeout(20):
                    while waiting.fetch_count < 100:
                        await asyncio.sleep(0.01)
                    for writer in writers:
                        writer.transport.abort()
                    while waiting.fetch_count:
                        await asyncio.sleep(0.01)
                assert len(waiting.deadlines) < 250, round_number

    asyncio.run(scenario())
