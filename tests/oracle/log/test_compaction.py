"""Apache Kafka 4.3 and Barnabas compact the same input, and go on with what the other one left."""

from __future__ import annotations

import random
import re
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from barnabas.log.checkpoints import OffsetCheckpoint
from barnabas.log.files import Files
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_batch
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.oracle.kafka_broker import KafkaBroker
from tests.oracle.leaders import wait_until_led
from tests.oracle.log.test_dump_log_segments import dump
from tests.transactional_producer import TransactionalProducer, call_until, create_topic, last_stable_offset
from tests.wire_client import WireClient

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

SETTINGS = {
    "auto.create.topics.enable": "false",
    "log.cleaner.backoff.ms": "50",
    "log.cleaner.min.cleanable.ratio": "0",
    "log.flush.scheduler.interval.ms": "100",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
}
TOPIC = "compacted"
STEP_MS = 5000
"""Between one batch and the next; so far in the future that the markers' times, which are real, roll nothing by chance."""


class Producer(TransactionalProducer):
    """Keyed records of given times."""

    def batch(self, values, *, sequence=0, transactional=True):
        time_ms, codec, *records = values
        return bytes(
            build_batch(
                [(0, time_ms, key, value, ()) for key, value in records],
                compression=codec,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                base_sequence=sequence,
                is_transactional=transactional,
            )
        )

    def produce(self, topic, partition, *values, version=None, **options):
        answer = super().produce(topic, partition, *values, version=version, **options)
        if answer.error_code == 0:
            self.sequences[topic, partition] -= 2  # the time and the codec
        return answer


class Side:
    """A broker, and what it is told."""

    def __init__(self, address, data_directory, start_ms):
        self.client = WireClient(address)
        self.data_directory = data_directory
        self.start_ms = start_ms

    def begin(self):
        create_topic(
            self.client,
            TOPIC,
            cleanup_policy="delete",
            retention_ms="-1",
            segment_ms="12000",
            delete_retention_ms="0",
            index_interval_bytes="200",
        )
        wait_until_led(self.client, TOPIC)
        self.transactional = [Producer(self.client, f"t{number}").start() for number in range(2)]
        self.open = set()
        self.idempotent = Producer(self.client, None)
        answer = call_until(
            lambda: self.client.call(InitProducerIdRequest(transactional_id=None), 4),
            lambda answer: answer.error_code,
        )
        self.idempotent._now(answer.producer_id, answer.producer_epoch)

    def tell(self, steps):
        for number, (kind, *details) in steps:
            time_ms = self.start_ms + number * STEP_MS
            if kind == "end":
                which, commit = details
                if which in self.open:
                    self.open.discard(which)
                    end = self._end()
                    self.transactional[which].finish(commit=commit)
                    wait_until(lambda before=end: self._end() > before, what="the marker")
                continue
            which, codec, records = details
            if kind == "transactional":
                self.open.add(which)
                self.transactional[which].write(TOPIC, 0, time_ms, codec, *records)
            elif kind == "idempotent":
                answer = call_until(
                    lambda at=(time_ms, codec, *records): self.idempotent.produce(
                        TOPIC, 0, *at, transactional=False
                    ),
                    lambda answer: answer.error_code,
                )
                assert answer.error_code == 0, answer
            else:
                self._produce(build_batch([(0, time_ms, *each, ()) for each in records], compression=codec))

    def _end(self):
        return last_stable_offset(self.client, TOPIC, committed=False)

    def _produce(self, batch):
        data = ProduceRequest.PartitionProduceData(index=0, records=bytes(batch))
        request = ProduceRequest(
            acks=-1,
            timeout_ms=10_000,
            topic_data=[ProduceRequest.TopicProduceData(name=TOPIC, partition_data=[data])],
        )
        answer = self.client.call(request, 9).responses[0].partition_responses[0]
        assert answer.error_code == 0, answer

    def set_policy(self, policy):
        request = IncrementalAlterConfigsRequest(
            resources=[
                IncrementalAlterConfigsRequest.AlterConfigsResource(
                    resource_type=2,
                    resource_name=TOPIC,
                    configs=[
                        IncrementalAlterConfigsRequest.AlterableConfig(name="cleanup.policy", value=policy)
                    ],
                )
            ]
        )
        assert self.client.call(request, 1).responses[0].error_code == 0

    def compact(self):
        """Has the topic compacted once; what is said then is not compacted until the next time."""
        self.set_policy("compact")
        wait_until(lambda: self.cleaned() == self.segments()[-1], what="a compaction")
        self.set_policy("delete")

    def cleaned(self):
        checkpoint = OffsetCheckpoint(Files(), self.data_directory / "cleaner-offset-checkpoint")
        return checkpoint.read().get((TOPIC, 0))

    def segments(self):
        return sorted(int(path.stem) for path in (self.data_directory / f"{TOPIC}-0").glob("*.log"))

    def stored(self):
        """Each batch as it is stored, but for what is of the hour: times of markers, delete horizons, producer ids."""
        data = b""
        offset = 0
        while True:
            request = FetchRequest(
                max_wait_ms=0,
                min_bytes=0,
                max_bytes=1 << 20,
                topics=[
                    FetchRequest.FetchTopic(
                        topic=TOPIC,
                        partitions=[
                            FetchRequest.FetchPartition(
                                partition=0, fetch_offset=offset, partition_max_bytes=1 << 20
                            )
                        ],
                    )
                ],
            )
            (answer,) = self.client.call(request, 11).responses[0].partitions
            assert answer.error_code == 0
            records = bytes(answer.records or b"")
            if not records:
                break
            for position, header in iterate_headers(records):
                data += records[position : position + header.size_bytes]
                offset = header.next_offset
        found = []
        for position, header in iterate_headers(data):
            records = [
                (record.offset, None if header.is_control else record.timestamp, record.key, record.value)
                for record in iterate_batch(data, position, header)
            ]
            found.append(
                {
                    "offsets": (header.base_offset, header.last_offset),
                    "records": records if not header.is_control else len(records),
                    "time": None if header.is_control else header.max_timestamp,
                    "horizon": header.delete_horizon_ms is not None,
                    "flags": header.attributes,
                    "producer": (header.producer_id >= 0, header.base_sequence),
                }
            )
        return found


def random_steps(chance, numbers):
    steps = []
    for number in numbers:
        kind = chance.choice(["plain", "plain", "idempotent", "transactional", "transactional", "end"])
        which = chance.randrange(2)
        if kind == "end":
            steps.append((number, (kind, which, chance.random() < 0.5)))
            continue
        records = [
            (b"key-%d" % chance.randrange(8), None if chance.random() < 0.25 else b"value-%d" % number)
            for _ in range(chance.randint(1, 4))
        ]
        steps.append((number, (kind, which, chance.choice([0, 0, 1, 2, 3, 4]), records)))
    last = numbers[-1] + 1
    steps += [(last, ("end", which, True)) for which in range(2)]
    # A producer whose last batch has become old.
    steps.append((last + 1, ("idempotent", 0, 0, [(b"key-1", b"old"), (b"key-2", b"old")])))
    steps.append((last + 2, ("plain", 0, 0, [(b"key-1", b"new"), (b"key-2", None)])))
    steps += [(last + 3 + more, ("plain", 0, 0, [(b"tail-%d" % more, b"")])) for more in range(8)]
    return steps


@contextmanager
def both(tmp_path, ours_in=None, kafka_in=None):
    """Both brokers with their data directories, running."""
    kafka = KafkaBroker(tmp_path / "kafka", config=SETTINGS)
    ours = BrokerProcess(tmp_path / "ours", settings=SETTINGS)
    if ours_in is not None:
        kafka.data_directory, ours.data_directory = kafka_in, ours_in
    try:
        kafka.start()
        with ours:
            start_ms = int(time.time() * 1000) + 60_000
            sides = (
                Side(kafka.bootstrap, kafka.data_directory, start_ms),
                Side(ours.bootstrap_server, ours.data_directory, start_ms),
            )
            try:
                yield sides
            finally:
                for side in sides:
                    side.client.socket.close()
            assert ours.stop() == 0
        kafka.stop()
    finally:
        kafka.kill()


def agree(kafka, ours):
    theirs, mine = kafka.stored(), ours.stored()
    for one, other in zip(theirs, mine, strict=False):
        assert one == other
    assert len(theirs) == len(mine)
    # Not the segments: of many small ones we make several where Kafka makes one.
    assert kafka.segments()[-1] == ours.segments()[-1]
    return mine


def test_both_leave_the_same(tmp_path):
    """The same records survive, in the same batches, pass after pass: tombstones, markers, empty batches and all.

    Then each goes on with the other's directory. Kafka's own tool finds nothing wrong with ours.
    """
    chance = random.Random(11)
    with both(tmp_path) as (kafka, ours):
        for side in (kafka, ours):
            side.begin()
        seen = []
        for phase in range(3):
            steps = random_steps(chance, range(phase * 60, phase * 60 + 30))
            for side in (kafka, ours):
                side.tell(steps)
            before = agree(kafka, ours)
            for side in (kafka, ours):
                side.compact()
            seen.append((before, agree(kafka, ours)))
        directory = Path(ours.data_directory) / f"{TOPIC}-0"
    assert any(batch["horizon"] for _, after in seen for batch in after)
    assert any(not batch["records"] for _, after in seen for batch in after), "there is no empty batch"
    assert all(len(after) < len(before) for before, after in seen)

    printed = dump(sorted(directory.glob("*.log")), "--deep-iteration", "--print-data-log")
    offsets = [int(found) for found in re.findall(r"^\| offset: (\d+)", printed, re.MULTILINE)]
    markers = sum(batch["records"] for batch in seen[-1][1] if isinstance(batch["records"], int))
    data = [
        record[0]
        for batch in seen[-1][1]
        if isinstance(batch["records"], list)
        for record in batch["records"]
    ]
    assert len(offsets) == len(data) + markers
    indexes = [*sorted(directory.glob("*.index")), *sorted(directory.glob("*.timeindex"))]
    dump(indexes, "--index-sanity-check")
    dump(indexes, "--verify-index-only")

    with both(tmp_path, ours_in=kafka.data_directory, kafka_in=ours.data_directory) as (kafka, ours):
        assert agree(kafka, ours) == seen[-1][1]
        steps = [step for step in random_steps(chance, range(180, 210)) if step[1][0] == "plain"]
        for side in (kafka, ours):
            side.tell(steps)
            side.compact()
        agree(kafka, ours)
