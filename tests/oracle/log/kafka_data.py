"""Writes topics with an ordinary client and reads them back, at Apache Kafka and at Barnabas."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker_process import wait_until

if TYPE_CHECKING:
    from tests.oracle.kafka_broker import KafkaBroker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SEGMENT_BYTES = 1_048_576

Record = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


COORDINATOR_COMES = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
}


class At:
    """A broker by its address, as the writers and readers of `kafka_data` know it."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap


@dataclass
class KafkaTopic:
    """What consumers read from partition 0 (offset, timestamp, key, value, headers), and where it begins and ends.

    `times` says for some timestamps which offset Kafka finds.
    """

    name: str
    records: list[Record]
    committed: list[Record]
    start: int
    end: int
    times: dict[int, int]


def create_topic(kafka: KafkaBroker | At, name: str, **settings: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    config = {key.replace("_", "."): value for key, value in settings.items()}
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result(30)


def produce(kafka: KafkaBroker | At, topic: str, count: int, *, value_bytes: int = 500, **settings) -> None:
    """Records with every odd thing that a record can have."""
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True, "linger.ms": 5, **settings}
    )
    fill_topic(producer, topic, count, value_bytes)
    assert producer.flush(60) == 0


def fill_topic(producer: Producer, topic: str, count: int, value_bytes: int = 500) -> None:
    now_ms = int(time.time() * 1000)
    chance = random.Random(topic)
    for number in range(count):
        # Half of it compresses, so that compressed topics fill segments too.
        value = chance.randbytes(value_bytes // 2 + number % 7) + b"half" * (value_bytes // 8)
        producer.produce(
            topic,
            key=(None, b"", b"key-%d" % number)[number % 3],
            value=None if number % 11 == 0 else value,
            headers=[("trace", b"%d" % number), ("empty", b""), ("null", None)] if number % 5 == 0 else None,
            timestamp=now_ms - 60_000 + number * (-1) ** number,
            partition=0,
        )
        if number % 1000 == 999:
            producer.poll(0)


def read_all(kafka: KafkaBroker | At, topic: str, *, isolation: str = "read_uncommitted") -> list[Record]:
    """Every record up to the end of the partition, as a consumer sees it."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
        }
    )
    records: list[Record] = []
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for message in consumer.consume(1000, 0.2):
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    return records
                records.append(
                    (
                        message.offset(),
                        message.timestamp()[1],
                        message.key(),
                        message.value(),
                        tuple(message.headers() or ()),
                    )
                )
        raise AssertionError(f"only {len(records)} records of {topic} and no end")
    finally:
        consumer.close()


def describe(kafka: KafkaBroker | At, name: str) -> KafkaTopic:
    """What Apache Kafka serves of a topic."""
    records = read_all(kafka, name)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "oracle",
            "isolation.level": "read_uncommitted",
        }
    )
    try:
        start, end = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30)
        wanted = [records[len(records) * part // 7][1] + part % 2 for part in range(7)] if records else []
        times = {
            time_ms: consumer.offsets_for_times([TopicPartition(name, 0, time_ms)], timeout=30)[0].offset
            for time_ms in wanted
        }
    finally:
        consumer.close()
    return KafkaTopic(name, records, read_all(kafka, name, isolation="read_committed"), start, end, times)


def committed_of(consumer, partition):
    """What a group committed; None while the broker that has just started finds its coordinator."""
    try:
        return consumer.committed([partition], timeout=30)
    except KafkaException as error:
        if error.args[0].code() in COORDINATOR_COMES:
            return None
        raise


def read_in_group(broker, count, topic="events"):
    """Where the group `readers` goes on, after which it reads and commits `count` records."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "readers",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
    )
    try:
        partition = TopicPartition(topic, 0)
        (committed,) = wait_until(lambda: committed_of(consumer, partition), what="a coordinator")
        start = max(committed.offset, 0)
        consumer.assign([TopicPartition(topic, 0, start)])
        messages = []
        while len(messages) < count:
            messages += consumer.consume(count - len(messages), 30)
        assert [message.offset() for message in messages] == list(range(start, start + count))
        consumer.commit(offsets=[TopicPartition(topic, 0, start + count)], asynchronous=False)
        return start
    finally:
        consumer.close()
