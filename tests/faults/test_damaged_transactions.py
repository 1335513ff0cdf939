"""Each file that transactions and compaction leave on the disk is damaged in turn: no aborted record is ever served as a committed one."""

from __future__ import annotations

import asyncio
import logging
import shutil

import pytest

from barnabas import cli
from barnabas.errors import ConfigError, ErrorCode, StorageError
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_batch
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.faults.test_damaged_files import DAMAGES, path_is_offline, rights
from tests.handlers import node
from tests.transactional_producer import TransactionalProducer, create_topic, read_on
from tests.wire_client import WireClient

SETTINGS = {
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "log.cleaner.backoff.ms": "100",
}
TRANSACTIONS = 24
FILES = [
    "t-0/first.txnindex",
    "t-0/last.txnindex",
    "t-0/first.snapshot",
    "t-0/last.snapshot",
    "t-0/leader-epoch-checkpoint",
    "__transaction_state-0/last.log",
    "__transaction_state-0/last.index",
    "__transaction_state-0/last.timeindex",
    "__transaction_state-0/last.snapshot",
    "__transaction_state-0/leader-epoch-checkpoint",
    "__transaction_state-0/partition.metadata",
    "c-0/first.log",
    "c-0/first.index",
    "c-0/first.timeindex",
    "cleaner-offset-checkpoint",
]


def fill(client, directory):
    """Transactions over several segments, every other one aborted, and a topic that has been compacted."""
    create_topic(client, "t", segment_bytes=str(1 << 20))
    producer = TransactionalProducer(client, "x").start()
    for number in range(TRANSACTIONS):
        producer.write("t", 0, *(b"%d " % number + bytes(40_000) for _ in range(4)))
        producer.finish(commit=number % 2 == 0)
    create_topic(
        client, "c", cleanup_policy="compact", internal_segment_bytes="1000", min_cleanable_dirty_ratio="0"
    )
    for number in range(20):
        batch = bytes(build_batch([(0, number, b"key", b"%d" % number + bytes(300), ())]))
        data = ProduceRequest.PartitionProduceData(index=0, records=batch)
        topic = ProduceRequest.TopicProduceData(name="c", partition_data=[data])
        answer = client.call(ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[topic]), 9)
        assert answer.responses[0].partition_responses[0].error_code == 0
    checkpoint = directory / "cleaner-offset-checkpoint"
    wait_until(lambda: checkpoint.exists() and "c 0" in checkpoint.read_text(), what="compaction")
    assert [value.partition(b" ")[0] for value in read_on(client, "t")] == [
        b"%d" % number for number in range(0, TRANSACTIONS, 2) for _ in range(4)
    ]


@pytest.fixture(scope="module", params=["stopped", "killed"])
def left(request, tmp_path_factory):
    """The directory of a broker that was stopped, or killed."""
    root = tmp_path_factory.mktemp(request.param)
    with BrokerProcess(root, settings=SETTINGS) as broker:
        with WireClient(broker.bootstrap_server) as client:
            fill(client, broker.data_directory)
        if request.param == "stopped":
            assert broker.stop() == 0
        else:
            broker.kill()
    return broker.data_directory


def is_stopped(data):
    return (data / ".kafka_cleanshutdown").exists()


def find(data, name):
    directory, _, file = name.rpartition("/")
    which, _, kind = file.partition(".")
    if which not in ("first", "last"):
        return data / directory / file
    found = sorted(path for path in (data / directory).glob(f"*.{kind}"))
    if kind in ("log", "txnindex"):
        found = [path for path in found if path.stat().st_size]
    return found[0 if which == "first" else -1]


def test_no_file_is_left_out(left):
    """Whatever lies beside the records is damaged here or in `test_damaged_files`."""
    from tests.faults.test_damaged_files import FILES as OTHERS

    def kinds(names):
        return {name.rpartition("/")[2].rpartition(".")[2] or name for name in names}

    there = {str(path.relative_to(left)) for path in left.rglob("*") if path.is_file()}
    # What waits for its deletion, and what a cleaner was about to write, is of no use to anybody; a `.swap` has a test of its own.
    assert kinds(there) - {"deleted", "cleaned", "swap"} <= kinds(FILES + OTHERS)


NOT_NOTICED = {"emptied", "garbled", "deleted"}
"""What a transaction index after a clean stop is believed, as by Apache Kafka: it has no checksum, and need not exist."""


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__[1:])
@pytest.mark.parametrize("name", FILES)
def test_nothing_aborted_is_served(left, tmp_path, name, damage, caplog, capsys):
    """Committed records are all there unless they were in the file; and transactions go on, or the message names the file."""
    data = tmp_path / "data"
    shutil.copytree(left, data)
    with rights(damage), caplog.at_level(logging.INFO):
        try:
            path = find(data, name)
            damage(path)
        except (FileNotFoundError, IndexError):
            pytest.skip("there is no such file")
        is_believed = name.endswith(".txnindex") and damage.__name__[1:] in NOT_NOTICED and is_stopped(data)
        if is_believed:
            assert cli.main(["verify", str(data)]) == 1
            assert path.name in capsys.readouterr().out
            return
        refusal = None
        try:
            asyncio.run(look(tmp_path, name))
        except (ConfigError, StorageError) as error:
            refusal = str(error)
    assert refusal is None or path.name in refusal
    assert not [record for record in caplog.records if record.exc_info], "no traceback"


async def look(directory, name):
    settings = {key.replace(".", "_"): value for key, value in SETTINGS.items()}
    async with asyncio.timeout(30), node.running(directory, **settings) as one:
        values = await committed(one, "t")
        everything = [number for number in range(0, TRANSACTIONS, 2) for _ in range(4)]
        numbers = [int(value.partition(b" ")[0]) for value in values]
        if path_is_offline(one):
            assert numbers == everything[: len(numbers)]
            return
        assert numbers == everything
        if not name.startswith("c-0/"):
            assert [value.rstrip(b"\0") for value in await committed(one, "c")][-1] == b"19"
        if name == "__transaction_state-0/last.log":
            # What was acknowledged is gone: the coordinator may know an earlier transaction than the partitions do.
            return
        await one.call(FindCoordinatorRequest(key="x", key_type=1), 2)
        while not path_is_offline(one):
            answer = await one.call(
                InitProducerIdRequest(transactional_id="x", transaction_timeout_ms=5000), 4
            )
            if answer.error_code not in (
                ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode.COORDINATOR_NOT_AVAILABLE,
                ErrorCode.CONCURRENT_TRANSACTIONS,
            ):
                break
            await asyncio.sleep(0.02)
        again = [int(value.partition(b" ")[0]) for value in await committed(one, "t")]
        if name.startswith(("c-0/", "cleaner")) and path_is_offline(one):
            # The cleaner has come upon the file meanwhile: it goes on where it stopped, at a moment of its own.
            assert again == everything[: len(again)]
            return
        assert answer.error_code == 0
        assert again == everything


async def committed(one, topic):
    """What readers of committed records get."""
    offset, values, aborted = 0, [], set()
    while True:
        asked = FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 18)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            isolation_level=1,
            session_epoch=-1,
            topics=[FetchRequest.FetchTopic(topic=topic, partitions=[asked])],
        )
        found = (await one.call(request, 11)).responses[0].partitions[0]
        if found.error_code:
            assert found.error_code in (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.CORRUPT_MESSAGE)
            return values
        data = bytes(found.records or b"")
        starts = sorted((each.first_offset, each.producer_id) for each in found.aborted_transactions or ())
        end = offset
        for position, header in iterate_headers(data):
            if position + header.size_bytes > len(data):
                break
            while starts and starts[0][0] <= header.last_offset:
                aborted.add(starts.pop(0)[1])
            if header.is_control:
                aborted.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in aborted):
                values += [
                    bytes(record.value)
                    for record in iterate_batch(data, position, header)
                    if record.offset >= offset
                ]
            end = header.next_offset
        if end == offset:
            return values
        offset = end
