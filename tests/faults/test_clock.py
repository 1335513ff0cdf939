"""The clock of the machine is set, back or ahead, while a broker is busy: nobody who uses it notices, also after the next start."""

from __future__ import annotations

import mmap
import struct
import sys
import threading
import time

import pytest
from confluent_kafka import Consumer, Producer

from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.transactional_producer import TransactionalProducer, create_topic, read
from tests.wire_client import WireClient

DAY_MS = 86_400_000
YEARS_MS = 3_650 * DAY_MS
PARTITIONS = 3
SETTINGS = {
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "group.consumer.session.timeout.ms": "45000",
    "log.retention.check.interval.ms": "100",
    "log.initial.task.delay.ms": "100",
    "offsets.retention.check.interval.ms": "100",
}
LAUNCH = """
import mmap, struct, sys
import barnabas.clock

with open(sys.argv.pop(1), "r+b") as file:
    shift = mmap.mmap(file.fileno(), 8)

class SetClock(barnabas.clock.SystemClock):
    def now_ms(self):
        return super().now_ms() + struct.unpack("<q", shift)[0]

barnabas.clock.SystemClock = SetClock
from barnabas import cli
sys.exit(cli.main(sys.argv[1:]))
"""
"""A broker whose wall clock is wrong by what a file says. The monotonic clock is nobody's to set."""


class Writer(threading.Thread):
    """Writes numbers in order to each partition, and keeps those that were acknowledged."""

    def __init__(self, address, topic):
        super().__init__(name="writer", daemon=True)
        self.acknowledged: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.refused: list[str] = []
        self._producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 0})
        self._topic = topic
        self._ends = threading.Event()

    def run(self):
        number = 0
        while not self._ends.wait(0.005):
            for index in range(PARTITIONS):
                self._producer.produce(self._topic, b"%d" % number, partition=index, on_delivery=self._done)
            number += 1
            self._producer.poll(0)
        self._producer.flush(30)

    def _done(self, error, message):
        if error is not None:
            self.refused.append(str(error))
        else:
            self.acknowledged[message.partition()].append(int(message.value()))

    def stop(self):
        self._ends.set()
        self.join()


class Reader(threading.Thread):
    """The one member of a group, which should get its partitions once."""

    def __init__(self, address, topic, protocol):
        super().__init__(name=protocol, daemon=True)
        self.read: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.assignments = 0
        settings = {"session.timeout.ms": 45_000} if protocol == "classic" else {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": f"group-{protocol}",
                "group.protocol": protocol,
                "auto.offset.reset": "earliest",
                "auto.commit.interval.ms": 50,
                **settings,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._assigned)
        self._ends = threading.Event()

    def _assigned(self, _, partitions):
        self.assignments += bool(partitions)

    def run(self):
        while not self._ends.is_set():
            for message in self._consumer.consume(100, 0.05):
                if message.error() is None:
                    self.read[message.partition()].append(int(message.value()))
        self._consumer.close()

    def stop(self):
        self._ends.set()
        self.join()


def parked_fetch_s(client, topic):
    """How long a fetch waits that asks for half a second and gets nothing."""
    asked = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)
    request = FetchRequest(
        max_wait_ms=500, min_bytes=1, topics=[FetchRequest.FetchTopic(topic=topic, partitions=[asked])]
    )
    started = time.monotonic()
    assert client.call(request, 11).responses[0].partitions[0].error_code == 0
    return time.monotonic() - started


def offset_at(client, topic, timestamp):
    asked = ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=[asked])]
    )
    return client.call(request, 5).topics[0].partitions[0].offset


@pytest.mark.timeout(180)
@pytest.mark.parametrize("shift_ms", [-DAY_MS, -YEARS_MS, 6 * DAY_MS])
@pytest.mark.parametrize("stamped_by", ["CreateTime", "LogAppendTime"])
def test_the_clock_is_set(tmp_path, shift_ms, stamped_by):
    """Nothing is refused, lost, read twice or deleted, nobody is thrown out of a group, and waiting takes as long as it should."""
    file = tmp_path / "shift"
    file.write_bytes(bytes(8))
    broker = BrokerProcess(tmp_path, settings=SETTINGS, command=(sys.executable, "-c", LAUNCH, str(file)))
    with file.open("r+b") as opened:
        shift = mmap.mmap(opened.fileno(), 8)
    with broker, WireClient(broker.bootstrap_server) as client:
        # Producers go on by their own clocks; else what is more than an hour ahead is refused, as in Kafka.
        ahead = {"message_timestamp_after_max_ms": str(1 << 60)}
        create_topic(
            client,
            "busy",
            PARTITIONS,
            message_timestamp_type=stamped_by,
            **ahead,
        )
        create_topic(client, "idle", **ahead)
        transaction = TransactionalProducer(client, "transaction").start()
        transaction.write("idle", 0, b"before")
        transaction.finish(commit=True)
        writer = Writer(broker.bootstrap_server, "busy")
        readers = [Reader(broker.bootstrap_server, "busy", protocol) for protocol in ("classic", "consumer")]
        for thread in (writer, *readers):
            thread.start()

        def everybody_reads(more):
            ends = [len(acknowledged) + more for acknowledged in writer.acknowledged]
            wait_until(
                lambda: all(
                    len(read) >= end
                    for reader in readers
                    for read, end in zip(reader.read, ends, strict=True)
                ),
                60,
                "records to be read",
            )

        everybody_reads(20)
        if shift_ms < 0:
            transaction.write("idle", 0, b"across")
        create_topic(client, "empty")
        shift[:] = struct.pack("<q", shift_ms)
        everybody_reads(100)
        assert 0.4 < parked_fetch_s(client, "empty") < 10
        create_topic(client, "after")
        if shift_ms < 0:
            transaction.finish(commit=True)
        transaction.write("idle", 0, b"after")
        transaction.finish(commit=True)
        values = [b"before", b"across", b"after"] if shift_ms < 0 else [b"before", b"after"]
        wait_until(lambda: read(client, "idle") == values, what="the transactions")
        assert offset_at(client, "busy", 0) == 0
        broker.kill()
        broker.start()
        everybody_reads(100)
        shift[:] = bytes(8)
        everybody_reads(100)
        writer.stop()
        everybody_reads(0)
        for reader in readers:
            reader.stop()
        assert writer.refused == []
        for reader in readers:
            assert reader.read == writer.acknowledged, reader.name
            assert reader.assignments == 1, (
                f"{reader.name} was assigned its partitions {reader.assignments} times"
            )
