"""Apache Kafka's own DumpLogSegments reads every kind of file that we write, without complaint."""

from __future__ import annotations

import asyncio
import re
import struct

import pytest

from barnabas.config.topic import LogConfig
from barnabas.log.producer_snapshot import decode_snapshot
from barnabas.log.transaction_index import ENTRY_SIZE as ABORTED_SIZE
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch
from barnabas.wire.messages.group.group_metadata_key import GroupMetadataKey
from barnabas.wire.messages.group.group_metadata_value import GroupMetadataValue
from barnabas.wire.messages.group.offset_commit_key import OffsetCommitKey
from barnabas.wire.messages.group.offset_commit_value import OffsetCommitValue
from barnabas.wire.messages.transaction.transaction_log_key import TransactionLogKey
from barnabas.wire.messages.transaction.transaction_log_value import TransactionLogValue
from tests.broker_process import BrokerProcess
from tests.oracle.kafka_jars import run_java
from tests.oracle.log.kafka_data import At, create_topic, produce, read_in_group
from tests.oracle.log.our_data import CONFIG, Writer, log_directories

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

TOPIC_ID = bytes(range(1, 17))
COMPLAINT = re.compile(
    r"mismatch|out of order|non-consecutive|invalid|error|exception|not found|fail", re.IGNORECASE
)


def dump(paths, *options):
    """What DumpLogSegments prints about files; a complaint of its fails."""
    done = run_java(
        "org.apache.kafka.tools.DumpLogSegments", [*options, "--files", ",".join(map(str, paths))]
    )
    for line in done.stdout.splitlines():
        assert line.startswith("|") or not COMPLAINT.search(line), line
    return done.stdout


def our_log(directory, *, clean):
    """A log with everything in it; returns its directory and what was written."""

    async def write():
        async with log_directories(directory, clean=clean) as logs:
            writer = Writer(logs.create("ours", 0, TOPIC_ID, CONFIG))
            writer.fill()
            writer.append(3000, 0, 5, transactional=True)
            if not clean:
                writer.log.flush()
            writer.aborted = writer.log.aborted_transactions(0, writer.log.log_end_offset)
            return writer

    writer = asyncio.run(write())
    return directory / "ours-0", writer


def test_segments(tmp_path):
    """Every record is there with its offset, time, key, headers and sequence number; batches follow one another."""
    directory, writer = our_log(tmp_path, clean=True)
    printed = dump(sorted(directory.glob("*.log")), "--deep-iteration", "--print-data-log")
    offsets = [int(found) for found in re.findall(r"^\| offset: (\d+) CreateTime", printed, re.MULTILINE)]
    assert offsets == list(range(writer.log.log_end_offset))
    times = dict(re.findall(r"^\| offset: (\d+) CreateTime: (\d+) keySize", printed, re.MULTILINE))
    assert {int(offset): int(time_ms) for offset, time_ms in times.items()}.items() >= {
        (offset, time_ms) for offset, time_ms, *_ in writer.records
    }
    assert printed.count("endTxnMarker: COMMIT") == 2
    assert printed.count("endTxnMarker: ABORT") == 2
    assert set(re.findall(r"compresscodec: (\w+)", printed)) == {"none", "gzip", "snappy", "lz4", "zstd"}
    assert "headerKeys: [trace,null]" in printed


@pytest.mark.parametrize("clean", [True, False])
def test_indexes(tmp_path, clean):
    """Offset and time indexes name existing batches in order; after a kill those of the closed segments."""
    directory, _ = our_log(tmp_path, clean=clean)
    indexes = [*sorted(directory.glob("*.index")), *sorted(directory.glob("*.timeindex"))]
    assert len(indexes) >= (6 if clean else 4)
    checked = dump(indexes, "--index-sanity-check")
    assert checked.count("passed sanity check") == len(indexes)
    dump(indexes, "--verify-index-only")
    printed = dump(indexes)
    assert len(re.findall(r"^offset: \d+ position: \d+$", printed, re.MULTILINE)) > 100
    assert len(re.findall(r"^timestamp: \d+ offset: \d+$", printed, re.MULTILINE)) > 100


def test_transaction_indexes_and_snapshots(tmp_path):
    """Aborted transactions and producers are as we know them ourselves."""
    directory, writer = our_log(tmp_path, clean=True)
    aborted = sorted(directory.glob("*.txnindex"))
    printed = dump(aborted)
    found = re.findall(
        r"producerId: (\d+) firstOffset: (\d+) lastOffset: \d+ lastStableOffset: (\d+)", printed
    )
    assert [(int(producer), int(first)) for producer, first, _ in found] == writer.aborted
    assert sum(path.stat().st_size for path in aborted) == ABORTED_SIZE * len(found) > 0

    snapshots = sorted(directory.glob("*.snapshot"))
    assert len(snapshots) >= 3
    printed = dump(snapshots[-1:])
    entries = {entry.producer_id: entry for entry in decode_snapshot(snapshots[-1].read_bytes())}
    lines = re.findall(
        r"^producerId: (\d+) producerEpoch: (-?\d+) coordinatorEpoch: (-?\d+) currentTxnFirstOffset: (\S+) "
        r"lastTimestamp: (\d+) (?:firstSequence: (\d+) lastSequence: (\d+) lastOffset: (\d+))?",
        printed,
        re.MULTILINE,
    )
    assert len(lines) == len(entries) == 6
    for producer_id, epoch, coordinator_epoch, first, time_ms, _, sequence, offset in lines:
        entry = entries[int(producer_id)]
        assert (entry.epoch, entry.coordinator_epoch) == (int(epoch), int(coordinator_epoch))
        assert entry.last_timestamp_ms == int(time_ms)
        assert (entry.last_sequence, entry.last_offset) == (int(sequence), int(offset))
        assert ("empty" in first) == (entry.transaction_first_offset < 0)
    dump(snapshots)


def internal_log(directory, topic, records):
    async def write():
        async with log_directories(directory) as logs:
            log = logs.create(topic, 0, TOPIC_ID, LogConfig(cleanup_policy=frozenset({"compact"})))
            batch = build_batch([(index, 1, key, value, ()) for index, (key, value) in enumerate(records)])
            log.append(batch, [parse_header(batch)], leader_epoch=0, now_ms=1)

    asyncio.run(write())
    return sorted((directory / f"{topic}-0").glob("*.log"))


def record(key, value, version):
    return (
        struct.pack(">h", key.API_KEY) + key.encode(0),
        None if value is None else struct.pack(">h", version) + value.encode(version),
    )


def test_offsets_decoder(tmp_path):
    """Records of __consumer_offsets are read by Kafka's decoder."""
    member = GroupMetadataValue.MemberMetadata(
        member_id="member-1", client_id="client", client_host="/127.0.0.1", session_timeout=45_000
    )
    paths = internal_log(
        tmp_path,
        "__consumer_offsets",
        [
            record(
                OffsetCommitKey(group="readers", topic="orders", partition=3),
                OffsetCommitValue(offset=42, metadata="here", commit_timestamp=7),
                3,
            ),
            record(
                GroupMetadataKey(group="readers"),
                GroupMetadataValue(
                    protocol_type="consumer",
                    generation=5,
                    protocol="range",
                    leader="member-1",
                    members=[member],
                ),
                3,
            ),
            record(OffsetCommitKey(group="readers", topic="orders", partition=4), None, 3),
        ],
    )
    printed = dump(paths, "--offsets-decoder")
    for expected in (
        '"group":"readers","topic":"orders","partition":3',
        '"offset":42',
        '"generation":5',
        "member-1",
    ):
        assert expected in printed, printed


def test_transaction_log_decoder(tmp_path):
    """Records of __transaction_state are read by Kafka's decoder."""
    paths = internal_log(
        tmp_path,
        "__transaction_state",
        [
            record(
                TransactionLogKey(transactional_id="payments"),
                TransactionLogValue(
                    producer_id=77,
                    producer_epoch=2,
                    transaction_timeout_ms=60_000,
                    transaction_status=1,
                    transaction_partitions=[
                        TransactionLogValue.PartitionsSchema(topic="orders", partition_ids=[1, 2])
                    ],
                    transaction_last_update_timestamp_ms=9,
                    transaction_start_timestamp_ms=8,
                ),
                0,
            )
        ],
    )
    printed = dump(paths, "--transaction-log-decoder")
    for expected in ("payments", "77", "orders"):
        assert expected in printed, printed


def test_internal_logs_of_a_running_broker(tmp_path):
    """What a broker wrote of its own accord, metadata and a group's offsets, is read by Kafka's decoders."""
    broker = BrokerProcess(tmp_path, settings={"offsets.topic.num.partitions": "1"})
    with broker:
        here = At(broker.bootstrap_server)
        create_topic(here, "events", retention_ms="123456789")
        produce(here, "events", 20)
        assert read_in_group(here, 10) == 0
        assert broker.stop() == 0
    data = broker.data_directory
    printed = dump(sorted((data / "__cluster_metadata-0").glob("*.log")), "--cluster-metadata-decoder")
    for expected in ("TOPIC_RECORD", '"name":"events"', "PARTITION_RECORD", "CONFIG_RECORD", "123456789"):
        assert expected in printed, printed
    printed = dump(sorted((data / "__consumer_offsets-0").glob("*.log")), "--offsets-decoder")
    assert '"group":"readers","topic":"events","partition":0' in printed, printed
    assert '"offset":10' in printed, printed
