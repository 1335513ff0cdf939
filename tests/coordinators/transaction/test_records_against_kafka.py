"""What lies in `__transaction_state` after the same conversation: Apache Kafka's records and ours, and each read by the other."""

from __future__ import annotations

import json
import re

import pytest

from barnabas.coordinators.shard import Now
from barnabas.coordinators.transaction.records import decode_key, decode_value
from barnabas.coordinators.transaction.settings import TransactionSettings
from barnabas.coordinators.transaction.shard import TransactionShard
from barnabas.coordinators.transaction.state import TransactionState
from barnabas.records.record import iterate_records
from tests.broker_process import BrokerProcess, wait_until
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.kafka_jars import run_java
from tests.transactional_producer import (
    TransactionalProducer,
    create_topic,
    find_coordinator,
    last_stable_offset,
)
from tests.wire_client import WireClient

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

SETTINGS = {
    "transaction.state.log.num.partitions": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
}
SEGMENT = "__transaction_state-0/00000000000000000000.log"


def converse(address):
    """Both versions of transactions: several partitions, offsets, both ends, a fenced producer; one stays open."""
    with WireClient(address) as client:
        create_topic(client, "t", 2)

        def is_led():
            try:
                return last_stable_offset(client, "t") >= 0
            except AssertionError:
                return False

        wait_until(is_led)
        find_coordinator(client, "g", 0)
        for version in (1, 2):
            producer = TransactionalProducer(client, f"x{version}", version).start(timeout_ms=30_000)
            for commit in (True, False):
                producer.write("t", 0, b"a")
                producer.write("t", 1, b"b")
                if version == 2:
                    producer.write_offsets("g", "t", {0: 1})
                producer.finish(commit=commit)
            producer.write("t", 0, b"c")
            TransactionalProducer(client, f"x{version}", version).start()
        producer = TransactionalProducer(client, "öpen").start()
        producer.init(keep=True)
        producer.write("t", 1, b"d")


@pytest.fixture(scope="module")
def kafka_segment(tmp_path_factory):
    with kafka_broker(tmp_path_factory.mktemp("kafka"), config=SETTINGS) as broker:
        converse(broker.bootstrap)
        yield broker.data_directory / SEGMENT


@pytest.fixture(scope="module")
def our_segment(tmp_path_factory):
    with BrokerProcess(tmp_path_factory.mktemp("barnabas"), settings=SETTINGS) as broker:
        converse(broker.bootstrap_server)
        yield broker.data_directory / SEGMENT


def told(segment):
    """What the records say, in order; ids that a broker makes up are numbered, times are those that there are."""
    numbers = {-1: None}
    found = []
    for record in iterate_records(segment.read_bytes()):
        snapshot = decode_value(record.value)
        shown = {
            name: numbers.setdefault(value, len(numbers)) if name.endswith("producer_id") else value
            for name, value in snapshot._asdict().items()
            if name not in ("start_ms", "update_ms")
        }
        shown["has_start"] = snapshot.start_ms >= 0
        shown["value_version"] = record.value[:2]
        found.append((record.key, shown))
    return found


def test_the_records_are_the_same(kafka_segment, our_segment):
    """One for each step, with the same content."""
    theirs, ours = told(kafka_segment), told(our_segment)
    assert len(ours) > 15
    assert ours == theirs


def test_kafka_reads_ours(our_segment):
    """DumpLogSegments knows every record by name."""
    shown = run_java(
        "org.apache.kafka.tools.DumpLogSegments",
        ["--transaction-log-decoder", "--files", str(our_segment)],
    ).stdout
    lines = [
        (json.loads(key), json.loads(value))
        for key, value in re.findall(r"key: (\{.*?\}) payload: (\{.*\})", shown)
    ]
    assert [key["data"]["transactionalId"] for key, _ in lines] == [
        decode_key(key) for key, _ in told(our_segment)
    ], shown[:2000]
    assert [value["data"]["transactionStatus"] for _, value in lines] == [
        each["state"] for _, each in told(our_segment)
    ]


def test_we_replay_kafkas(kafka_segment):
    """A directory of Kafka's may be taken over with an open transaction in it, and with one that is half decided."""
    records = list(iterate_records(kafka_segment.read_bytes()))
    for count in range(1, len(records) + 1):
        posted = []
        shard = TransactionShard(TransactionSettings(), posted.append)
        for offset, record in enumerate(records[:count]):
            shard.replay(offset, -1, -1, record.key, record.value)
        assert list(shard.on_loaded(Now(0, 0.0))) == []
        prepared = [
            each.transactional_id
            for each in shard.transactions.values()
            if each.state in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)
        ]
        assert [markers.transactional_id for markers in posted] == prepared
    assert shard.transactions["öpen"].state is TransactionState.ONGOING
