"""Produce requests that repeat themselves are answered as if each were the first."""

from __future__ import annotations

import asyncio
import random
import struct
import time

import pytest

from barnabas.errors import CloseConnection, DecodeError, ErrorCode, KafkaError, StorageError
from barnabas.handlers.repeated_produce import REMEMBERED_MAX
from barnabas.network.context import ConnectionContext
from barnabas.network.parked import Parked
from barnabas.records.builder import build_batch
from barnabas.replication.partition import Partition
from barnabas.replication.recompression import AT_ONCE_BYTES
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.produce import ProduceRequest, ProduceResponse
from tests.event_loops import eventually
from tests.handlers.node import running
from tests.topic_requests import create_topics

VERSIONS = range(3, 14)
PARTITIONS = 3
NOW_MS = int(time.time() * 1000)
_WITH_TOPIC_IDS = 7


async def _create(node, name, partitions=PARTITIONS, **configs):
    answer = await node.call(create_topics([name], partitions, **configs), _WITH_TOPIC_IDS)
    assert answer.topics[0].error_code == 0
    return answer.topics[0].topic_id


def _context(name):
    return ConnectionContext(
        connection_id=name,
        client_address=("127.0.0.1", 1),
        local_address=("127.0.0.1", 9092),
        listener_name="X",
    )


def _frame(version, correlation_id, request, client_id="test"):
    flexible = version >= ProduceRequest.FLEXIBLE_FROM
    name = client_id.encode()
    header = struct.pack(">hhih", 0, version, correlation_id, len(name)) + name + b"\0" * flexible
    return memoryview(bytearray(header + request.encode(version)))


def _request(topic, topic_id, index, batch, *, acks=1):
    partition = ProduceRequest.PartitionProduceData(index=index, records=batch)
    data = ProduceRequest.TopicProduceData(name=topic, topic_id=topic_id, partition_data=[partition])
    return ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=[data])


def _batch(count=1, size_bytes=10, **more):
    return bytearray(build_batch([(i, NOW_MS, None, bytes(size_bytes), ()) for i in range(count)], **more))


async def _answer(node, context, frame):
    """What the client gets, bytes, None, or the reason why its connection is closed; and whether it had to wait."""
    waits = False
    try:
        answer = node.broker._server.dispatch(context, frame)
        waits = isinstance(answer, Parked)
        if waits:
            done = asyncio.get_running_loop().create_future()
            if not answer.future.done():
                answer.future.add_done_callback(lambda _: done.done() or done.set_result(None))
                await done
            answer = answer.encode(answer.future)
    except (DecodeError, CloseConnection) as error:
        answer = type(error).__name__
    return answer, waits


def _steps(rng, topic, topic_id, version):
    """Frames of a client that mostly repeats itself, and is wrong now and then."""
    sequence = 0
    for number in range(120):
        # Sizes on both sides of where their varint gets longer.
        size_bytes = rng.choice(
            (0, 1, 10, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 1000, 16_300, 40_000)
        )
        more = {}
        if rng.random() < 0.4:
            more = {"producer_id": 7, "producer_epoch": 0, "base_sequence": max(sequence, 0)}
            sequence += rng.choice((0, 1, 1, 1, 1, 3))
        batch = _batch(rng.choice((1, 1, 1, 5)), size_bytes, **more)
        fault = rng.random()
        if fault < 0.05:
            batch[rng.randrange(len(batch))] ^= 1 << rng.randrange(8)
        elif fault < 0.08:
            batch = batch[: rng.randrange(len(batch))]
        elif fault < 0.1:
            batch = batch + batch
        request = _request(
            topic,
            topic_id if rng.random() < 0.97 else bytes(range(16)),
            rng.choice((0, 0, 0, 1, 2, 99)),
            bytes(batch),
            acks=rng.choice((1, 1, 1, -1, -1, 0, 2)),
        )
        if rng.random() < 0.05:
            request.topic_data.append(request.topic_data[0])
        if rng.random() < 0.03:
            request.transactional_id = "t"
        frame = _frame(version, number, request, client_id=rng.choice(("test", "test", "test", "other")))
        if rng.random() < 0.03:
            frame = frame[: rng.randrange(8, len(frame))]
        if rng.random() < 0.03:
            frame = memoryview(bytearray(bytes(frame) + b"\0"))
        if rng.random() < 0.15:
            # The size of the batch, the partition's number, the tags at the end.
            position = rng.choice((*range(-len(batch) - 5, -len(batch)), -1, -2, -3))
            if -position <= len(frame):
                frame[position] ^= 1 << rng.randrange(8)
        yield frame


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_repeated_request_gets_the_answer_of_a_first_one(loop, tmp_path, version):
    """Whatever a client sends, its answers are those of a client whose requests are all taken apart."""
    async with running(tmp_path) as node:
        again, fresh = _context("again"), _context("fresh")
        again_id, fresh_id = await _create(node, "again"), await _create(node, "fresh")
        remembered = 0
        pairs = zip(
            _steps(random.Random(version), "again", again_id, version),
            _steps(random.Random(version), "fresh", fresh_id, version),
            strict=True,
        )
        for mine, other in pairs:
            fresh.repeated_produces = None
            ours, theirs = await _answer(node, again, mine), await _answer(node, fresh, other)
            if isinstance(ours[0], bytes):
                theirs = theirs[0].replace(fresh_id, again_id).replace(b"fresh", b"again"), theirs[1]
            assert ours == theirs
            if again.repeated_produces is not None:
                remembered = len([p for places in again.repeated_produces._places.values() for p in places])
        assert (remembered > 0) == (version >= 5), remembered
        for index in range(PARTITIONS):
            logs = [node.broker._replicas.leader(name, index).log for name in ("again", "fresh")]
            assert logs[0].log_end_offset == logs[1].log_end_offset > 0


@pytest.mark.parametrize("version", range(5, 14))
async def test_batches_of_all_sizes_are_appended_from_memory(loop, tmp_path, version):
    """What was seen once is not taken apart again, however big the next batch is, up to two megabytes."""
    async with running(tmp_path, message_max_bytes=3_000_000) as node:
        topic_id = await _create(node, "sizes")
        context = _context("c")
        await _answer(node, context, _frame(version, 0, _request("sizes", topic_id, 0, _batch())))
        sizes = (*range(40, 70), 1_000, *range(16_300, 16_330), 100_000, 2_000_000)
        for offset, size_bytes in enumerate(sizes, 1):
            request = _request("sizes", topic_id, 0, _batch(size_bytes=size_bytes))
            answer = context.repeated_produces.answer(context, _frame(version, offset, request))
            response = ProduceResponse.decode(answer, version, 5 if version >= 9 else 4)
            assert response.responses[0].partition_responses[0].base_offset == offset


async def test_a_connection_remembers_a_bounded_number(loop, tmp_path):
    """A client of many partitions is remembered for some of them, and answered for all."""
    async with running(tmp_path) as node:
        topic_id = await _create(node, "wide", partitions=REMEMBERED_MAX + 8)
        context = _context("c")
        for turn in range(3):
            for index in range(REMEMBERED_MAX + 8):
                frame = _frame(9, index, _request("wide", topic_id, index, _batch()))
                answer, _ = await _answer(node, context, frame)
                response = ProduceResponse.decode(answer, 9, 5)
                assert response.responses[0].partition_responses[0].base_offset == turn
        assert sum(map(len, context.repeated_produces._places.values())) == REMEMBERED_MAX


@pytest.mark.parametrize("version", [9, 13])
async def test_a_remembered_topic_can_go(loop, tmp_path, version):
    """A topic that was deleted is unknown, and one made anew under its name begins at 0."""
    async with running(tmp_path) as node:
        topic_id = await _create(node, "gone")
        context = _context("c")

        async def produce():
            answer, _ = await _answer(
                node, context, _frame(version, 1, _request("gone", topic_id, 0, _batch()))
            )
            part = ProduceResponse.decode(answer, version, 5).responses[0].partition_responses[0]
            return part.error_code, part.base_offset

        assert [await produce() for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]
        state = DeleteTopicsRequest.DeleteTopicState(name="gone")
        await node.call(DeleteTopicsRequest(topics=[state], timeout_ms=10_000), 6)
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= 13 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (await produce())[0] == unknown
        await _create(node, "gone")
        assert await produce() == ((unknown, -1) if version >= 13 else (0, 0))


async def test_a_disk_that_fails_is_told(loop, tmp_path, monkeypatch):
    """The batch that the disk does not take gets KAFKA_STORAGE_ERROR, and so do those after it."""
    async with running(tmp_path) as node:
        topic_id = await _create(node, "full")
        context = _context("c")

        async def produce():
            answer, _ = await _answer(node, context, _frame(9, 1, _request("full", topic_id, 0, _batch())))
            return ProduceResponse.decode(answer, 9, 5).responses[0].partition_responses[0].error_code

        assert [await produce() for _ in range(2)] == [0, 0]
        log = node.broker._replicas.leader("full", 0).log

        def fail(*_):
            raise StorageError("the disk failed")

        monkeypatch.setattr(log._files, "write_at", fail)
        assert [await produce() for _ in range(2)] == [ErrorCode.KAFKA_STORAGE_ERROR] * 2
        assert node.broker._replicas.leader("full", 0).metrics.produce_requests.value == 4


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, ErrorCode.NONE),
        (StorageError("the disk failed"), ErrorCode.KAFKA_STORAGE_ERROR),
        (KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "cut off"), ErrorCode.NOT_LEADER_OR_FOLLOWER),
        ("nothing comes", ErrorCode.REQUEST_TIMED_OUT),
    ],
)
@pytest.mark.parametrize("version", [5, 9, 13])
async def test_what_becomes_of_a_wait_is_told(loop, tmp_path, monkeypatch, version, error, code):
    """acks=all answers when the disk has the batch, says what failed, and does not wait longer than the client wants."""
    async with running(tmp_path) as node:
        topic_id = await _create(node, "waits")
        context = _context("c")
        request = _request("waits", topic_id, 0, _batch(), acks=-1)
        request.timeout_ms = 50 if error == "nothing comes" else 60_000
        await _answer(node, context, _frame(version, 0, request))

        def call_when_synced(log, offset, on_synced, is_over):
            assert offset == log.log_end_offset
            if error != "nothing comes":
                loop.call_soon(on_synced, error)
            return True

        with monkeypatch.context() as patch:
            patch.setattr(node.broker._group_commit, "call_when_synced", call_when_synced)
            answer, waits = await asyncio.wait_for(_answer(node, context, _frame(version, 7, request)), 10)
        assert waits
        response = ProduceResponse.decode(answer, version, 5 if version >= 9 else 4)
        part = response.responses[0].partition_responses[0]
        assert (part.error_code, part.base_offset) == (code, 1 if error is None else -1)
        assert answer[:4] == b"\0\0\0\7"
        assert node.broker._waiting.produce_count == 0


@pytest.mark.parametrize(("codec", "size_bytes"), [("producer", 10), ("gzip", AT_ONCE_BYTES + 1)])
async def test_a_commit_that_does_not_come_forgets_who_waited(loop, tmp_path, monkeypatch, codec, size_bytes):
    """Else all the producers that come again and again while nothing is committed would stay in memory."""
    async with running(tmp_path) as node:
        topic_id = await _create(node, "waits", compression_type=codec)
        commits = []

        def wait_committed(last_offset, acks):
            commits.append(loop.create_future())
            return commits[-1]

        monkeypatch.setattr(Partition, "wait_committed", lambda _, *arguments: wait_committed(*arguments))
        request = _request("waits", topic_id, 0, _batch(size_bytes=size_bytes), acks=-1)
        request.timeout_ms = 50
        answer, waits = await asyncio.wait_for(_answer(node, _context("c"), _frame(9, 7, request)), 10)
        assert waits
        response = ProduceResponse.decode(answer, 9, 5).responses[0].partition_responses[0]
        assert response.error_code == ErrorCode.REQUEST_TIMED_OUT
        await eventually(lambda: commits and commits[0].done(), what="the end of the waiting")


async def test_internal_topics_are_never_remembered(loop, tmp_path):
    """Only Kafka's own tools may write internal topics, however often somebody else tries."""
    async with running(tmp_path) as node:
        topic_id = await _create(node, "__consumer_offsets", partitions=1)
        context = _context("c")
        for version in (9, 13):
            for client_id in ("__admin_client", "test", "__admin_client"):
                frame = _frame(version, 1, _request("__consumer_offsets", topic_id, 0, _batch()), client_id)
                await _answer(node, context, frame)
        assert context.repeated_produces is None or not context.repeated_produces._places
