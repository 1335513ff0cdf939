"""Every file of a stopped broker is damaged in turn: the next start repairs it or says what is wrong, and never serves nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time

import pytest

from barnabas.errors import ConfigError, DecodeError, StorageError
from barnabas.records.batch import check_crc, iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.faults.privileges import unprivileged
from tests.handlers import node

PRODUCER_ID = 4000
BATCHES = 80
COMMITTED = 17
SETTINGS = {
    "offsets_topic_num_partitions": 1,
    "metadata_log_max_record_bytes_between_snapshots": 200,
    "metadata_log_segment_bytes": 8 << 20,
}
STARTED_MS = time.time_ns() // 1_000_000  # producers that were idle for long are forgotten


def _emptied(path):
    path.write_bytes(b"")


def _halved(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _short_of_a_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def _garbled(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 + min(
        100, len(content) // 4
    )  # within a batch's records, not in its base offset
    content[middle : middle + 8] = bytes(byte ^ 0x5A for byte in content[middle : middle + 8])
    path.write_bytes(content)


def _overwritten(path):
    path.write_bytes(b"\xff" * max(path.stat().st_size, 1))


def _zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def _deleted(path):
    path.unlink()


def _a_directory(path):
    path.unlink()
    path.mkdir()


def _forbidden(path):
    path.chmod(0)
    with pytest.raises(PermissionError):
        path.open("rb")


def rights(damage):
    """Those of a user who is kept from a forbidden file, be it root."""
    return unprivileged() if damage is _forbidden else contextlib.nullcontext()


def _longer(path):
    with path.open("ab") as file:
        file.write(b"\x07" * 100)


DAMAGES = [
    _emptied,
    _halved,
    _short_of_a_byte,
    _garbled,
    _overwritten,
    _zeroed,
    _deleted,
    _a_directory,
    _forbidden,
    _longer,
]
FILES = [
    "meta.properties",
    ".lock",
    ".kafka_cleanshutdown",
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "t-0/partition.metadata",
    "t-0/leader-epoch-checkpoint",
    "t-0/first.log",
    "t-0/first.index",
    "t-0/first.timeindex",
    "t-0/last.log",
    "t-0/last.index",
    "t-0/last.timeindex",
    "t-0/first.snapshot",
    "t-0/last.snapshot",
    "t-0/middle.log",
    "t-0/middle.index",
    "t-0/middle.timeindex",
    "t-0/middle.snapshot",
    "__cluster_metadata-0/first.log",
    "__cluster_metadata-0/last.log",
    "__cluster_metadata-0/first.checkpoint",
    "__cluster_metadata-0/last.checkpoint",
    "__cluster_metadata-0/.lock",
    "__cluster_metadata-0/.reserve",
    "__cluster_metadata-0/quorum-state",
    "__cluster_metadata-0/leader-epoch-checkpoint",
    "__cluster_metadata-0/partition.metadata",
    "__consumer_offsets/last.log",
    "__consumer_offsets/last.index",
    "__consumer_offsets/last.timeindex",
    "__consumer_offsets/last.snapshot",
    "__consumer_offsets/leader-epoch-checkpoint",
    "__consumer_offsets/partition.metadata",
]


def _find(data, name):
    directory, _, file = name.rpartition("/")
    if directory == "__consumer_offsets":
        paths = [
            path
            for path in data.glob("__consumer_offsets-*")
            if any(f.stat().st_size for f in path.glob("*.log"))
        ]
        where = paths[0]
    else:
        where = data / directory
    if file.startswith(("first.", "middle.", "last.")):
        kind = file.partition(".")[2]
        found = sorted(path for path in where.glob(f"*.{kind}"))
        if kind == "log" and file.startswith("last."):
            found = [path for path in found if path.stat().st_size]
        return found[{"first": 0, "middle": len(found) // 2, "last": -1}[file.partition(".")[0]]]
    return where / file


def produce(sequence):
    value = b"%d " % sequence + b"x" * 30_000
    batch = build_batch(
        [(0, STARTED_MS + sequence, b"k", value, ())],
        producer_id=PRODUCER_ID,
        producer_epoch=0,
        base_sequence=sequence,
    )
    data = ProduceRequest.PartitionProduceData(index=0, records=batch)
    return ProduceRequest(
        acks=-1,
        timeout_ms=10_000,
        topic_data=[ProduceRequest.TopicProduceData(name="t", partition_data=[data])],
    )


async def fill(one):
    config = CreateTopicsRequest.CreatableTopicConfig(name="segment.bytes", value=str(1 << 20))
    topic = CreateTopicsRequest.CreatableTopic(
        name="t", num_partitions=1, replication_factor=1, configs=[config]
    )
    await one.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 5)
    for sequence in range(BATCHES):
        answer = await one.call(produce(sequence), 8)
        assert answer.responses[0].partition_responses[0].error_code == 0
    partition = OffsetCommitRequest.OffsetCommitRequestPartition(
        partition_index=0, committed_offset=COMMITTED
    )
    commit = OffsetCommitRequest(
        group_id="g",
        topics=[OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[partition])],
    )
    await one.call(FindCoordinatorRequest(key="g"), 2)
    async with asyncio.timeout(20):
        while True:
            answer = await one.call(commit, 2)
            if answer.topics[0].partitions[0].error_code == 0:
                return
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module", params=["stopped", "killed"])
def stopped(request, tmp_path_factory):
    """The directory of a broker that was stopped, or killed."""
    root = tmp_path_factory.mktemp(request.param)

    async def scenario():
        async with node.running(root / "run", **SETTINGS) as one:
            await fill(one)
            if request.param == "killed":
                await one.broker.log_directories._upkeep.write_recovery_points()
                shutil.copytree(root / "run", root / "killed")

    (root / "run").mkdir()
    asyncio.run(scenario())
    return root / ("killed" if request.param == "killed" else "run")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__[1:])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_repaired_or_refused(stopped, tmp_path, name, damage, caplog):
    """Whatever happened to a file: what is served is right as far as it goes, or the message names the file."""
    directory = tmp_path / "broker"
    shutil.copytree(stopped, directory)
    with rights(damage), caplog.at_level(logging.INFO):
        try:
            path = _find(directory / "data", name)
            damage(path)
        except (FileNotFoundError, IndexError):
            pytest.skip("there is no such file")
        refusal = None
        try:
            asyncio.run(look(directory, name))
        except (ConfigError, StorageError) as error:
            refusal = str(error)
    assert refusal is None or path.name in refusal
    if name == "t-0/first.log" and damage is _emptied:
        assert path.name in caplog.text
    assert not [record for record in caplog.records if record.exc_info], "no traceback"


@pytest.mark.parametrize(
    "damage", [_emptied, _halved, _short_of_a_byte, _garbled, _overwritten, _zeroed, _longer]
)
def test_a_damaged_result_of_compaction_takes_nothing_away(stopped, tmp_path, damage, caplog):
    """It was about to take a segment's place: the segment stays, the directory is in use, and the message names the file."""
    directory = tmp_path / "broker"
    shutil.copytree(stopped, directory)
    first = _find(directory / "data", "t-0/first.log")
    swap = first.with_name(first.name + ".swap")
    shutil.copyfile(first, swap)
    damage(swap)

    async def scenario():
        async with asyncio.timeout(30), node.running(directory, **SETTINGS) as one:
            values = []
            await read_partition(one, values)
            assert values == list(range(BATCHES))
            assert not path_is_offline(one)

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert damage is _emptied or swap.name in caplog.text
    assert not swap.exists()


async def look(directory, name):
    async with asyncio.timeout(30), node.running(directory, **SETTINGS) as one:
        assert "t" in one.image.topics, "metadata that lacks a topic with logs is refused"
        values = []
        offset = await read_partition(one, values)
        if name.startswith("t-0/") and name.endswith(".log"):
            assert values == sorted(set(values))
        elif is_set_aside(directory, "t-0"):
            # Its partition.metadata names another topic: as much as can be is kept.
            assert name == "t-0/partition.metadata"
            assert values == []
            return
        elif path_is_offline(one):
            assert values == list(range(len(values)))
        elif name != "log-start-offset-checkpoint":
            assert values == list(range(BATCHES)), "nothing else was damaged"
        if offset == BATCHES:
            # The producer state is right, too: its last batch is known, and its next one follows.
            again = (await one.call(produce(BATCHES - 1), 8)).responses[0].partition_responses[0]
            assert (again.error_code, again.base_offset) == (0, BATCHES - 1)
            new = (await one.call(produce(BATCHES), 8)).responses[0].partition_responses[0]
            assert (new.error_code, new.base_offset) == (0, BATCHES)
        if name == "__consumer_offsets/last.log" or is_set_aside(directory, "__consumer_offsets"):
            return
        fetch = OffsetFetchRequest(
            group_id="g",
            topics=[OffsetFetchRequest.OffsetFetchRequestTopic(name="t", partition_indexes=[0])],
        )
        while True:
            answer = await one.call(fetch, 5)
            if answer.error_code not in (14, 15, 16):
                break
            if answer.error_code == 16 and path_is_offline(one):
                return
            await asyncio.sleep(0.02)
        assert answer.topics[0].partitions[0].committed_offset == COMMITTED


def is_set_aside(directory, name):
    return any((directory / "data").glob(f"{name}*-stray"))


def path_is_offline(one):
    return len(one.broker.log_directories.online) < len(one.broker.log_directories.directories)


async def read_partition(one, values):
    """Collects the numbers of the records; gives the offset where it ends."""
    offset = 0
    while True:
        part = FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 18)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 18,
            session_epoch=-1,
            topics=[FetchRequest.FetchTopic(topic="t", partitions=[part])],
        )
        found = (await one.call(request, 11)).responses[0].partitions[0]
        if found.error_code:
            # Refused: corrupt, offline, or out of range.
            assert found.error_code in (1, 2, 56), found.error_code
            return offset
        data = bytes(found.records or b"")
        whole = 0
        try:
            for position, header in iterate_headers(data):
                if position + header.size_bytes > len(data):
                    break
                if not check_crc(data, position):
                    return offset  # as every client notices
                whole = position + header.size_bytes
        except DecodeError:
            if not whole:
                return offset  # and this
        records = list(iterate_records(data[:whole]))
        if not records:
            return offset
        for record in records:
            if record.offset >= offset:
                number = int(bytes(record.value).partition(b" ")[0])
                assert number == record.offset, "a record at the offset of another"
                values.append(number)
                offset = record.offset + 1
