"""A data directory changes hands: what Apache Kafka wrote is served by us, and what we wrote by Apache Kafka."""

from __future__ import annotations

import asyncio
import shutil
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from barnabas.errors import ConfigError
from barnabas.log.files import Files
from barnabas.log.partition_metadata import read_topic_id
from barnabas.log.verification.directory import check_directory
from barnabas.log.verification.findings import Findings
from barnabas.records.batch import iterate_headers
from barnabas.records.compression import Codec
from barnabas.records.record import iterate_records
from tests.oracle.kafka_broker import KafkaBroker, kafka_broker
from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43
from tests.oracle.log.kafka_data import (
    CODECS,
    SEGMENT_BYTES,
    create_topic,
    describe,
    fill_topic,
    produce,
    read_all,
)
from tests.oracle.log.our_data import CONFIG, Writer, log_directories

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]


def read_batches(log):
    """Every batch of a log with its records, read as fetches do it: regions of at most 64 KiB."""
    offset = log.log_start_offset
    batches = []
    while offset < log.log_end_offset:
        result = log.read(offset, 65_536, up_to_offset=log.log_end_offset)
        data = result.region.read()
        result.region.release()
        for position, header in iterate_headers(data):
            whole = data[position : position + header.size_bytes]
            records = [tuple(record) for record in iterate_records(whole) if record.offset >= offset]
            batches.append((header, records))
            offset = header.next_offset
    return batches


def read_log(log):
    """Every record of a log, as consumers see it."""
    return [record for _, records in read_batches(log) for record in records]


def committed(log, batches):
    """What a read_committed consumer makes of the batches: none of an aborted or open transaction."""
    end = log.last_stable_offset(log.log_end_offset)
    aborted = set(log.aborted_transactions(log.log_start_offset, end))
    transactions = {}
    visible = []
    for header, records in batches:
        if header.base_offset >= end:
            break
        if header.is_control:
            del transactions[header.producer_id]
        elif (
            not header.is_transactional
            or (header.producer_id, transactions.setdefault(header.producer_id, header.base_offset))
            not in aborted
        ):
            visible += records
    return visible


def write_topics(kafka):
    """All codecs, several segments, transactions that commit, abort and stay open, a log that begins late."""
    for codec in CODECS:
        create_topic(kafka, codec, segment_bytes=str(SEGMENT_BYTES), index_interval_bytes="1024")
        produce(kafka, codec, 6000, **{"compression.type": codec, "batch.size": 20_000})
    create_topic(kafka, "appended", message_timestamp_type="LogAppendTime")
    produce(kafka, "appended", 50)
    create_topic(kafka, "transactions")
    producers = []
    for number in range(2):
        producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "transactional.id": f"t{number}",
                "transaction.timeout.ms": 900_000,
            }
        )
        producer.init_transactions()
        producers.append(producer)
    for number in range(6):
        for producer in producers:
            producer.begin_transaction()
            fill_topic(producer, "transactions", 20)
            producer.flush()
        for producer in producers:
            if (number + producers.index(producer)) % 2:
                producer.abort_transaction()
            else:
                producer.commit_transaction()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for futures in admin.delete_records([TopicPartition("gzip", 0, 3500)]).values():
        futures.result(30)
    producers[0].begin_transaction()
    fill_topic(producers[0], "transactions", 5)
    producers[0].flush()


@pytest.fixture(scope="module")
def written(request, tmp_path_factory):
    """Data directories of Apache Kafka, after a clean stop and after a kill, and what consumers read from them."""
    directory = tmp_path_factory.mktemp("kafka")
    killed = directory / "killed"
    with kafka_broker(directory, version=request.param) as kafka:
        write_topics(kafka)
        topics = [describe(kafka, name) for name in (*CODECS, "appended", "transactions")]
        kafka.stop()
        shutil.copytree(kafka.data_directory, directory / "stopped")
        kafka.start()
        kafka.kill()
        shutil.copytree(kafka.data_directory, killed)
        # As if it had crashed before it wrote any of this: all logs have to be read from their beginning.
        (killed / "recovery-point-offset-checkpoint").unlink()
        for snapshot in killed.glob("*/*.snapshot"):
            snapshot.unlink()
        return SimpleNamespace(kafka=kafka, stopped=directory / "stopped", killed=killed, topics=topics)


def check_topics(logs, topics):
    for topic in topics:
        log = logs.get(topic.name, 0)
        log.on_high_watermark(log.log_end_offset)
        assert (log.log_start_offset, log.log_end_offset) == (topic.start, topic.end), topic.name
        batches = read_batches(log)
        assert [record for _, records in batches for record in records] == topic.records, topic.name
        assert committed(log, batches) == topic.committed, topic.name
        for time_ms, offset in topic.times.items():
            found = log.offset_for_timestamp(time_ms)
            assert (found[0] if found else -1) == offset, (topic.name, time_ms)
    assert len(logs.get("none", 0).segment_base_offsets()) >= 3
    transactions = logs.get("transactions", 0)
    assert transactions.last_stable_offset(transactions.log_end_offset) == transactions.log_end_offset - 5


def producers_of(log):
    return {
        entry.producer_id: (
            entry.epoch,
            entry.last_sequence,
            entry.last_offset,
            entry.coordinator_epoch,
            entry.last_timestamp_ms,
            entry.transaction_first_offset,
        )
        for entry in log.producer_state.active_producers()
    }


@pytest.mark.parametrize("written", [KAFKA_43, KAFKA_39], indirect=True)
def test_a_data_directory_of_kafka_is_served(written, tmp_path):
    """After a clean stop of Apache Kafka we serve what its consumers read: records, offsets, times, transactions.

    After a crash the same, and the producers found in the logs are those that Kafka's own snapshots name.
    """
    stopped, killed = tmp_path / "stopped", tmp_path / "killed"
    shutil.copytree(written.stopped, stopped)
    shutil.copytree(written.killed, killed)

    async def scenario():
        async with log_directories(stopped) as logs:
            assert logs.was_clean
            assert logs.cluster_id == written.kafka.cluster_id
            check_topics(logs, written.topics)
            from_snapshots = {topic.name: producers_of(logs.get(topic.name, 0)) for topic in written.topics}
        async with log_directories(killed) as logs:
            assert not logs.was_clean
            check_topics(logs, written.topics)
            recovered = {topic.name: producers_of(logs.get(topic.name, 0)) for topic in written.topics}
        assert recovered == from_snapshots
        assert all(from_snapshots.values())
        with pytest.raises(ConfigError, match="belongs to node 1"):
            async with log_directories(stopped, node_id=2):
                pass

    asyncio.run(scenario())


@pytest.mark.parametrize("written", [KAFKA_43, KAFKA_39], indirect=True)
def test_a_data_directory_of_kafka_is_sound(written):
    """`barnabas verify` finds nothing wrong with what Apache Kafka left, after a clean stop and after a crash."""
    for directory in (written.stopped, written.killed):
        found = []
        findings = Findings(found.append)
        check_directory(Files(), directory, findings)
        assert [str(finding) for finding in found if finding.is_problem] == []
        assert findings.partitions > len(written.topics)
        assert findings.records > 30_000


async def write_logs(directory, topic_id, *, clean):
    """Go on with a log of Apache Kafka, and begin one; returns what consumers must read from them."""
    async with log_directories(directory, clean=clean) as logs:
        continued = Writer(logs.get("zstd", 0))
        continued.records = read_log(continued.log)
        (known,) = continued.log.producer_state.active_producers()
        continued.append(known.producer_id, known.last_sequence + 1, 40, codec=Codec.ZSTD)

        ours = Writer(logs.create("ours", 0, topic_id, CONFIG, is_new=True))
        ours.fill()
        return {"zstd": continued.records, "ours": ours.records}, ours.committed


@pytest.mark.parametrize("written", [KAFKA_43], indirect=True)
@pytest.mark.parametrize("clean", [True, False])
def test_what_we_write_is_served_by_kafka(written, tmp_path, clean):
    """Apache Kafka takes over logs that we continued and logs that we began, closed in order or not."""
    kafka = KafkaBroker(tmp_path, version=written.kafka.version)
    kafka.adopt(written.stopped)
    try:
        kafka.start()
        create_topic(kafka, "ours", segment_bytes=str(SEGMENT_BYTES))
        kafka.stop()
        topic_id = read_topic_id(Files(), kafka.data_directory / "ours-0")
        shutil.rmtree(kafka.data_directory / "ours-0")
        expected, committed_records = asyncio.run(write_logs(kafka.data_directory, topic_id, clean=clean))
        kafka.start()
        for name, records in expected.items():
            assert read_all(kafka, name) == records, name
        assert describe(kafka, "ours").committed == committed_records
        produce(kafka, "ours", 10)
        assert len(read_all(kafka, "ours")) == len(expected["ours"]) + 10
    finally:
        kafka.kill()
