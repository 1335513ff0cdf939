"""ListOffsets of partitions that nobody has used since the start: their logs stay closed, and the answers are those of open ones."""

from __future__ import annotations

import itertools

import pytest

from barnabas.errors import ErrorCode
from barnabas.wire.messages.delete_records import DeleteRecordsRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from tests.handlers.node import running
from tests.topic_requests import CREATE, create_topics, produce

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL = -1, -2, -3, -4
UNCOMMITTED, COMMITTED = 0, 1
EMPTY, FILLED, CUT, EMPTIED = range(4)


async def list_offsets(node, partitions, timestamp, isolation_level=UNCOMMITTED, replica_id=-1, version=8):
    """Error, offset, timestamp and leader epoch of each."""
    asked = [
        ListOffsetsRequest.ListOffsetsPartition(partition_index=index, timestamp=timestamp)
        for index in partitions
    ]
    request = ListOffsetsRequest(
        replica_id=replica_id,
        isolation_level=isolation_level,
        topics=[ListOffsetsRequest.ListOffsetsTopic(name="orders", partitions=asked)],
    )
    answer = await node.call(request, version)
    return [
        (found.error_code, found.offset, found.timestamp, found.leader_epoch)
        for found in answer.topics[0].partitions
    ]


def are_open(node):
    replicas = node.broker._replicas
    logs = node.broker.log_directories
    found = [replicas.leader("orders", index).is_open for index in range(4)]
    assert found == [logs.hosted_log("orders", index).log is not None for index in range(4)]
    return found


async def fill(node):
    await node.call(create_topics(["orders"], 4), CREATE)
    for index in (FILLED, CUT, EMPTIED):
        for value in (b"0", b"1", b"2"):
            await node.call(produce("orders", index, value), 8)
    asked = [
        DeleteRecordsRequest.DeleteRecordsPartition(partition_index=index, offset=offset)
        for index, offset in ((CUT, 2), (EMPTIED, 3))
    ]
    topic = DeleteRecordsRequest.DeleteRecordsTopic(name="orders", partitions=asked)
    await node.call(DeleteRecordsRequest(topics=[topic], timeout_ms=10_000), 1)


@pytest.mark.parametrize("restart_count", [1, 2])
async def test_ends_are_told_without_opening_logs(tmp_path, loop, restart_count):
    """After an orderly stop the ends are known; whatever asks for more opens the logs, and finds the same."""
    async with running(tmp_path) as node:
        await fill(node)
    for _ in range(restart_count - 1):
        async with running(tmp_path) as node:
            await list_offsets(node, range(4), LATEST)
    async with running(tmp_path) as node:
        ends = await list_offsets(node, range(4), LATEST)
        assert [found[:3] for found in ends] == [(0, 0, -1), (0, 3, -1), (0, 3, -1), (0, 3, -1)]
        empty = {
            query: await list_offsets(node, [EMPTY], *query)
            for query in itertools.product((LATEST, EARLIEST), (UNCOMMITTED, COMMITTED))
        }
        assert are_open(node) == [False] * 4
        for index in range(4):
            assert node.broker._replicas.leader("orders", index).log is not None
        assert await list_offsets(node, range(4), LATEST) == ends
        for query, found in empty.items():
            assert await list_offsets(node, [EMPTY], *query) == found


@pytest.mark.parametrize(
    "query", [(EARLIEST,), (EARLIEST_LOCAL,), (MAX_TIMESTAMP,), (0,), (LATEST, COMMITTED)]
)
async def test_what_only_the_log_knows_is_asked_of_it(tmp_path, loop, query):
    """Its first record, its records and its transactions are not known before it is open."""
    async with running(tmp_path) as node:
        await fill(node)
        expected = await list_offsets(node, range(4), *query)
    async with running(tmp_path) as node:
        found = await list_offsets(node, range(4), *query)
        assert [answer[:3] for answer in found] == [answer[:3] for answer in expected]
        assert are_open(node)[1:] == [True] * 3


async def test_a_new_partition_is_not_opened_for_its_end(tmp_path, loop):
    """Not even if its directory is still to be made; its first record is counted then."""
    async with running(tmp_path) as node:
        await node.call(create_topics(["orders"], 4), CREATE)
        assert await list_offsets(node, range(4), LATEST) == [(0, 0, -1, 0)] * 4
        assert are_open(node) == [False] * 4
        assert (tmp_path / "data" / "orders-3").is_dir()
        await node.call(produce("orders", FILLED, b"0"), 8)
        assert (await list_offsets(node, [FILLED], LATEST))[0][:2] == (0, 1)
        assert are_open(node) == [False, True, False, False]


async def test_an_end_in_an_offline_directory_is_not_told(tmp_path, loop):
    """What cannot be read has no end."""
    async with running(tmp_path) as node:
        await fill(node)
    async with running(tmp_path) as node:
        assert (await list_offsets(node, [FILLED], LATEST))[0][:2] == (0, 3)
        node.broker.log_directories.take_offline(tmp_path / "data", OSError(5, "Input/output error"))
        assert (await list_offsets(node, [FILLED], LATEST))[0][:2] == (ErrorCode.KAFKA_STORAGE_ERROR, -1)


async def test_without_its_checkpoint_the_log_is_asked(tmp_path, loop):
    """A recovery point that is missing or damaged says nothing of the end."""
    async with running(tmp_path) as node:
        await fill(node)
    (tmp_path / "data" / "recovery-point-offset-checkpoint").write_text("garbage")
    async with running(tmp_path) as node:
        found = await list_offsets(node, range(4), LATEST)
        assert [answer[1] for answer in found] == [0, 3, 3, 3]
        assert are_open(node) == [True] * 4
