"""Kill -9 under load: what was acknowledged is there, once, in order."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker_process import BrokerProcess, wait_until

PARTITIONS = 4
PRODUCERS = 3
ROUNDS = int(os.environ.get("BARNABAS_KILL_ROUNDS", "20"))
SEGMENT_BYTES = 1 << 20  # the least that Kafka allows: each partition begins new ones on the way
FILLER = "x" * 1500


class _LoadingProducer(threading.Thread):
    """An idempotent producer that numbers its records for each partition and remembers what was acknowledged."""

    def __init__(self, number: int, bootstrap_server: str, stop: threading.Event) -> None:
        super().__init__(name=f"producer-{number}", daemon=True)
        self.number = number
        self.stop = stop
        self.acknowledged: list[set[int]] = [set() for _ in range(PARTITIONS)]
        self.sent = [0] * PARTITIONS
        self.failures: list[str] = []
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap_server,
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": 300_000,
                # Between the kills there is little time: a longer queue would never get empty on a slow machine.
                "queue.buffering.max.messages": 2_000,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 100,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        while not self.stop.is_set():
            first = self.sent[0]
            for partition in ((first + number) % PARTITIONS for number in range(PARTITIONS)):
                sequence = self.sent[partition]
                try:
                    self.producer.produce(
                        "load",
                        value=f"{self.number}:{sequence}:{FILLER}",
                        partition=partition,
                        on_delivery=lambda error, _, partition=partition, sequence=sequence: self._delivered(
                            partition, sequence, error
                        ),
                    )
                except BufferError:
                    break
                self.sent[partition] += 1
            # A pace that leaves many requests under way at each kill without drowning the machine.
            self.producer.poll(0.002)
        if self.producer.flush(120):
            self.failures.append("records are still unsent after two minutes")

    def _delivered(self, partition: int, sequence: int, error: KafkaError | None) -> None:
        if error is not None:
            self.failures.append(f"{partition}/{sequence}: {error}")
        else:
            self.acknowledged[partition].add(sequence)

    def has_progressed(self, before: list[int]) -> bool:
        """Whether more is acknowledged than `before`, in every partition."""
        return all(len(numbers) > count for numbers, count in zip(self.acknowledged, before, strict=True))


class _Committer(threading.Thread):
    """Commits rising offsets of a group, and looks after each one that nothing went back."""

    def __init__(self, bootstrap_server: str, stop: threading.Event) -> None:
        super().__init__(name="committer", daemon=True)
        self.stop = stop
        self.acknowledged = 0
        self.failures: list[str] = []
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_server,
                "group.id": "committed",
                "enable.auto.commit": False,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        attempted = 0
        while not self.stop.is_set():
            attempted += 1
            try:
                self.consumer.commit(offsets=[TopicPartition("load", 0, attempted)], asynchronous=False)
                self.acknowledged = attempted
            except KafkaException:
                self.stop.wait(0.01)
            found = self.found()
            if found is not None and not self.acknowledged <= found <= attempted:
                self.failures.append(f"committed {self.acknowledged}, tried {attempted}, and found {found}")

    def found(self) -> int | None:
        """The committed offset, None if the broker cannot be asked now."""
        try:
            (answer,) = self.consumer.committed([TopicPartition("load", 0)], timeout=5)
        except KafkaException:
            return None
        return None if answer.error else max(answer.offset, 0)


def _read_all(bootstrap_server: str) -> list[list[str]]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_server,
            "group.id": "check",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    found: list[list[str]] = [[] for _ in range(PARTITIONS)]
    for partition in range(PARTITIONS):
        topic_partition = TopicPartition("load", partition, 0)
        _, end = consumer.get_watermark_offsets(topic_partition, timeout=30)
        consumer.assign([topic_partition])
        deadline = time.monotonic() + 60
        position = 0
        while position < end:
            for message in consumer.consume(10_000, timeout=1):
                assert message.error() is None, message.error()
                assert message.offset() == position
                position += 1
                found[partition].append(message.value().decode())
            assert time.monotonic() < deadline, f"read only {position} of {end}"
    consumer.close()
    return found


@pytest.mark.durability
@pytest.mark.timeout(200 + 20 * ROUNDS)
def test_kill_nine_under_load_loses_and_doubles_nothing(tmp_path):
    """Kill after kill under idempotent producers: nothing acknowledged is lost, nothing doubled, order kept; no commit goes back."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    broker = BrokerProcess(tmp_path)
    broker.start()
    try:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_server})
        topic = NewTopic("load", PARTITIONS, 1, config={"segment.bytes": str(SEGMENT_BYTES)})
        admin.create_topics([topic])["load"].result(30)
        stop = threading.Event()
        producers = [_LoadingProducer(number, broker.bootstrap_server, stop) for number in range(PRODUCERS)]
        committer = _Committer(broker.bootstrap_server, stop)
        committer.start()
        for producer in producers:
            producer.start()
        for _ in range(ROUNDS):
            before = [list(map(len, producer.acknowledged)) for producer in producers]
            wait_until(
                lambda before=before: all(map(_LoadingProducer.has_progressed, producers, before)),
                60,
                "progress of every producer in every partition",
            )
            # The moment itself is random: somewhere within the next third of a second of load.
            stop.wait(chance.random() * 0.3)
            broker.kill()
            broker.start()
        stop.set()
        for producer in producers:
            producer.join(150)
            assert not producer.is_alive()
        committer.join(60)
        assert not committer.is_alive()
        broker.kill()
        broker.start()
        found = _read_all(broker.bootstrap_server)
        committed = wait_until(committer.found, what="the committed offset")
    finally:
        stop.set()
        broker.kill()
    assert [failure for producer in producers for failure in producer.failures] == []
    assert committer.failures == []
    assert committer.acknowledged > 0
    assert committed >= committer.acknowledged
    segments = list((broker.data_directory / "load-0").glob("*.log"))
    assert len(segments) > 1, "no segment was full"
    for partition, values in enumerate(found):
        for producer in producers:
            sequences = [
                int(value.split(":")[1]) for value in values if value.startswith(f"{producer.number}:")
            ]
            lost = producer.acknowledged[partition] - set(sequences)
            assert not lost, f"lost {len(lost)} acknowledged records of partition {partition}, seed {seed}"
            assert len(set(sequences)) == len(sequences), f"doubled in partition {partition}, seed {seed}"
            assert sequences == sorted(sequences), f"out of order in partition {partition}, seed {seed}"
