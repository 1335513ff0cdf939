"""The kinds of clients: each is a thread that does a little, waits a little, and says so when something is wrong."""

from __future__ import annotations

import collections
import contextlib
import random
import socket
import struct
import threading
import time
import traceback
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from barnabas.records.builder import build_batch
from barnabas.records.record import Record, iterate_records
from barnabas.wire.messages.api_versions import ApiVersionsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_configs import DescribeConfigsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.join_group import JoinGroupRequest
from barnabas.wire.messages.leave_group import LeaveGroupRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.produce import ProduceRequest
from barnabas.wire.messages.sync_group import SyncGroupRequest
from tests.oracle.building import build
from tests.wire_client import WireClient

if TYPE_CHECKING:
    from barnabas.wire.message import Message

__all__ = ["ORDERED", "PARTITIONS", "Checker", "all_workers", "create_topics"]

ORDERED, SLOW, IDS, TRANSACTIONS = "ordered", "slow", "ids", "transactions"
PARTITIONS = 4
PRODUCERS = 2
MEMBERS = 3
FILLER = "x" * 500
OFFSET_OUT_OF_RANGE = 1
MEMBER_ID_REQUIRED = 79


def create_topics(address: str) -> None:
    """What the workers need."""
    topics = [
        {"name": name, "num_partitions": count, "replication_factor": 1}
        for name, count in ((ORDERED, PARTITIONS), (SLOW, 1), (IDS, 1), (TRANSACTIONS, 1))
    ]
    # Aborted transactions are remembered as long as their segment is there.
    short = {"segment.ms": "30000", "retention.ms": "60000"}
    topics[-1]["configs"] = [{"name": key, "value": value} for key, value in short.items()]
    with WireClient(address) as client:
        client.call(build(CreateTopicsRequest, topics=topics, timeout_ms=10_000), 5)


class Checker:
    """Whether what is read is all that was written, in order.

    Attributes:
        read: (producer, partition) -> the number of its last record that the group has read.
        positions: partition -> the offset up to which the group has read.
    """

    def __init__(self) -> None:
        self.read: dict[tuple[int, int], int] = {}
        self.positions = [0] * PARTITIONS
        self._lock = threading.Lock()

    def take(self, partition: int, offset: int, value: str) -> None:
        """A member of the group was given this; a rebalance may repeat, but never leave out."""
        with self._lock:
            position = self.positions[partition]
            if offset < position:
                return
            assert offset == position, f"partition {partition} goes from {position} to {offset}"
            self.positions[partition] = offset + 1
            producer, number = map(int, value.split(":")[:2])
            last = self.read.get((producer, partition), -1)
            assert number == last + 1, f"{producer}'s record {last} in {partition} is followed by {number}"
            self.read[producer, partition] = number


class Worker(threading.Thread):
    """Works until `stop`; the first failure of anybody is in `failures`."""

    pause_s = 1.0

    def __init__(self, address: str, stop: threading.Event, failures: list[str], seed: int) -> None:
        super().__init__(name=type(self).__name__, daemon=True)
        self.address = address
        self.stop = stop
        self.failures = failures
        self.chance = random.Random(f"{seed} {type(self).__name__}")
        self.steps = 0

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.step()
                self.steps += 1
                self.stop.wait(self.pause_s * self.chance.uniform(0.5, 1.5))
            self.end()
        except Exception:  # noqa: BLE001 - whatever it is, the soak ends with it
            self.failures.append(f"{self.name}:\n{traceback.format_exc()}")
            self.stop.set()

    def step(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Once, after the last step."""

    def connect(self) -> WireClient:
        # Broker and network keep something for each client id, perhaps.
        return WireClient(self.address, client_id=f"soak-{self.chance.randrange(10**9)}", timeout_s=60)


class IdempotentProducer(Worker):
    """Numbers its records for each partition; all of them must be acknowledged."""

    pause_s = 0.2

    def __init__(self, number: int, *rest) -> None:
        super().__init__(*rest)
        self.number = number
        self.sent = 0
        self.acknowledged: collections.Counter[int] = collections.Counter()
        self._producer = Producer(
            {
                "bootstrap.servers": self.address,
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": ["none", "zstd"][number % 2],
                "message.timeout.ms": 120_000,
                "log_level": 0,
            }
        )

    def step(self) -> None:
        for partition in range(PARTITIONS):
            value = f"{self.number}:{self.sent}:{FILLER}"
            self._producer.produce(ORDERED, value=value, partition=partition, on_delivery=self._delivered)
        self.sent += 1
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message) -> None:
        if error is None:
            self.acknowledged[message.partition()] += 1
        else:
            self.failures.append(f"{self.name} {self.number}: {error}")

    def end(self) -> None:
        assert self._producer.flush(120) == 0
        assert self.acknowledged == dict.fromkeys(range(PARTITIONS), self.sent)


class GroupMember(Worker):
    """Reads with others in a group, leaves it every minute or so, and comes again."""

    pause_s = 0.2
    life_s = 45.0

    def __init__(self, checker: Checker, *rest) -> None:
        super().__init__(*rest)
        self._checker = checker
        self._consumer: Consumer | None = None
        self._leaves_at = 0.0

    def step(self) -> None:
        if self._consumer is None:
            settings = {
                "bootstrap.servers": self.address,
                "group.id": "readers",
                "auto.offset.reset": "earliest",
                "auto.commit.interval.ms": 1000,
                "session.timeout.ms": 30_000,
                "log_level": 0,
            }
            self._consumer = Consumer(settings)
            self._consumer.subscribe([ORDERED])
            self._leaves_at = time.monotonic() + self.life_s * self.chance.uniform(0.3, 2)
        self._read(0.5)
        if time.monotonic() > self._leaves_at:
            self.end()

    def _read(self, timeout_s: float) -> None:
        for message in self._consumer.consume(200, timeout_s):
            assert message.error() is None, message.error()
            self._checker.take(message.partition(), message.offset(), message.value().decode())

    def end(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None


class TransactionalProducer(Worker):
    """Commits and aborts in turn by chance, under an id that it changes now and then; reads back what it committed."""

    pause_s = 2.0
    turns = 20

    def __init__(self, *rest) -> None:
        super().__init__(*rest)
        self._producer: Producer | None = None
        self._expected: list[bytes] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": "committed",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(TRANSACTIONS, 0, 0)])

    def step(self) -> None:
        if self._producer is None or self.steps % self.turns == 0:
            self._producer = Producer(
                {
                    "bootstrap.servers": self.address,
                    "transactional.id": f"soak-{self.chance.randrange(10**9)}",
                    "log_level": 0,
                }
            )
            self._producer.init_transactions(60)
        self._producer.begin_transaction()
        values = [b"%d-%d" % (self.steps, number) for number in range(3)]
        for value in values:
            self._producer.produce(TRANSACTIONS, value=value, partition=0)
        if self.chance.random() < 0.3:
            self._producer.flush(60)
            self._producer.abort_transaction(60)
        else:
            self._producer.commit_transaction(60)
            self._expected += values
        self._read()

    def _read(self) -> None:
        end = time.monotonic() + 60
        while self._expected:
            assert time.monotonic() < end, f"committed, and not to be read: {self._expected}"
            for message in self._consumer.consume(len(self._expected), 1):
                assert message.error() is None, message.error()
                assert message.value() == self._expected.pop(0)

    def end(self) -> None:
        self._consumer.close()


class ReplayingReader(Worker):
    """Reads a partition from its beginning to its end: every offset, every producer's numbers in order."""

    pause_s = 10.0

    def step(self) -> None:
        partition = self.chance.randrange(PARTITIONS)
        with self.connect() as client:
            offset = earliest(client, partition)
            numbers: dict[str, int] = {}
            while not self.stop.is_set():
                answer = fetch(client, ORDERED, partition, offset)
                if answer.error_code == OFFSET_OUT_OF_RANGE:
                    offset, numbers = earliest(client, partition), {}
                    continue
                assert answer.error_code == 0, answer.error_code
                found = [
                    record
                    for record in iterate_records(bytes(answer.records or b""))
                    if record.offset >= offset
                ]
                if not found:
                    return
                for record in found:
                    assert record.offset == offset, f"{offset} is missing, {record.offset} follows"
                    producer, number, _ = record.value.decode().split(":")
                    assert int(number) == numbers.get(producer, int(number) - 1) + 1, (
                        producer,
                        number,
                        numbers,
                    )
                    numbers[producer] = int(number)
                    offset += 1


class SlowReader(Worker):
    """Takes a big answer in small pieces."""

    pause_s = 1.0

    def step(self) -> None:
        with self.connect() as client:
            offset = earliest(client, 0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = fetch_request(ORDERED, 0, offset, max_bytes=200_000)
            client.send(request, 11)
            data = bytearray()
            while not self.stop.wait(0.05):
                data += client.socket.recv(4096)
                if len(data) >= 4 and len(data) == 4 + struct.unpack_from(">i", data)[0]:
                    break


class SlowWriter(Worker):
    """Sends a request in small pieces; its record comes behind the one before."""

    pause_s = 1.0

    def __init__(self, *rest) -> None:
        super().__init__(*rest)
        self._next = 0

    def step(self) -> None:
        with self.connect() as client:
            request = produce_request(SLOW, [Record(0, now_ms(), b"k", bytes(20_000), ())])
            body = request.encode(9)
            header = struct.pack(">hhih", 0, 9, 1, 1) + b"s\0"
            frame = struct.pack(">i", len(header) + len(body)) + header + body
            for start in range(0, len(frame), 500):
                client.socket.sendall(frame[start : start + 500])
                if self.stop.wait(0.05):
                    return
            answer = client.receive_frame()
            # correlation id, tags, then one topic with one partition: its error and base offset
            name_end = 4 + 1 + 1 + 1 + len(SLOW)
            _, code, offset = struct.unpack_from(">xihq", answer, name_end)
            assert (code, offset) == (0, self._next), (code, offset, self._next)
            self._next += 1


class DeafClient(Worker):
    """Asks for more than it could read, and never reads."""

    pause_s = 5.0

    def step(self) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(self.connect())
                client.socket.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    for _ in range(200):
                        client.send(MetadataRequest(topics=None), 9)
                        client.send(fetch_request(ORDERED, 1, 0, max_wait_ms=100_000), 11)
            self.stop.wait(20)


class Passer(Worker):
    """Connects, says a little or half of it or nothing, and goes, in peace or not."""

    pause_s = 0.5

    def step(self) -> None:
        with self.connect() as client:
            what = self.chance.randrange(5)
            if what == 0:
                return
            if what == 1:
                client.call(ApiVersionsRequest(client_software_name="soak", client_software_version="1"), 3)
            elif what == 2:
                client.call(MetadataRequest(topics=None), 9)
            elif what == 3:
                client.socket.sendall(struct.pack(">i", 60_000_000) + bytes(self.chance.randrange(100_000)))
            elif what == 4:
                client.send(fetch_request(ORDERED, 2, 0, max_wait_ms=2**31 - 1, min_bytes=2**31 - 1), 11)
            if self.chance.random() < 0.5:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class FetchSessionOpener(Worker):
    """Opens a session for incremental fetches, and forgets it."""

    pause_s = 0.5

    def step(self) -> None:
        with self.connect() as client:
            request = fetch_request(ORDERED, 3, earliest(client, 3), max_wait_ms=0, max_bytes=1000)
            request.session_epoch = 0
            assert client.call(request, 11).error_code == 0


class NewProducerIds(Worker):
    """A producer id for each record, as of many short-lived programs."""

    pause_s = 0.5

    def step(self) -> None:
        with self.connect() as client:
            producer = client.call(InitProducerIdRequest(transactional_id=None), 1)
            assert producer.error_code == 0
            produce(client, IDS, [Record(0, now_ms(), b"k", b"v", ())], producer)


class Administrator(Worker):
    """Makes a topic, a setting and a group, uses them, and deletes them, or leaves the group to its expiry."""

    pause_s = 2.0

    def step(self) -> None:
        name = f"passing-{self.chance.randrange(10**9)}"
        with self.connect() as client:
            topic = {"name": name, "num_partitions": 3, "replication_factor": 1}
            created = client.call(build(CreateTopicsRequest, topics=[topic], timeout_ms=10_000), 5)
            assert created.topics[0].error_code == 0, created
            change = {"name": "retention.ms", "config_operation": 0, "value": "3600000"}
            resource = {"resource_type": 2, "resource_name": name, "configs": [change]}
            client.call(build(IncrementalAlterConfigsRequest, resources=[resource]), 1)
            client.call(
                build(DescribeConfigsRequest, resources=[{"resource_type": 2, "resource_name": name}]), 1
            )
            producer = client.call(InitProducerIdRequest(transactional_id=None), 1)
            produce(client, name, [Record(0, now_ms(), b"k", bytes(1000), ())], producer)
            assert fetch(client, name, 0, 0).records
            self._use_group(client, name)
            deleted = client.call(DeleteTopicsRequest(topic_names=[name], timeout_ms=10_000), 5)
            assert deleted.responses[0].error_code == 0, deleted

    def _use_group(self, client: WireClient, name: str) -> None:
        while client.call(FindCoordinatorRequest(key=name), 2).error_code:
            self.stop.wait(0.1)
        protocols = [{"name": "range", "metadata": b"m"}]
        is_left_behind = self.chance.random() < 0.3
        fields = {
            "group_id": name,
            # It sends no heartbeats, and where the machine is busy its few requests may take seconds each.
            "session_timeout_ms": 30_000 if is_left_behind else 300_000,
            "rebalance_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": protocols,
        }
        joined = client.call(build(JoinGroupRequest, **fields), 4)
        assert joined.error_code == MEMBER_ID_REQUIRED
        joined = client.call(build(JoinGroupRequest, member_id=joined.member_id, **fields), 4)
        assert joined.error_code == 0, joined
        member = {
            "group_id": name,
            "generation_id": joined.generation_id,
            "member_id": joined.member_id,
        }
        assignments = [{"member_id": joined.member_id, "assignment": b"a"}]
        synced = client.call(build(SyncGroupRequest, assignments=assignments, **member), 2)
        assert synced.error_code == 0, synced
        part = {"partition_index": 0, "committed_offset": 1, "committed_metadata": "m"}
        topics = [{"name": name, "partitions": [part]}]
        commit = build(
            OffsetCommitRequest,
            group_id=name,
            generation_id_or_member_epoch=joined.generation_id,
            member_id=joined.member_id,
            topics=topics,
        )
        committed = client.call(commit, 2)
        assert committed.topics[0].partitions[0].error_code == 0, committed
        if is_left_behind:
            return  # its member's session ends by itself, and its offsets expire
        left = client.call(LeaveGroupRequest(group_id=name, member_id=joined.member_id), 1)
        assert left.error_code == 0, left
        if self.chance.random() < 0.5:
            deleted = client.call(DeleteGroupsRequest(groups_names=[name]), 1)
            assert deleted.results[0].error_code == 0, deleted


def now_ms() -> int:
    return int(time.time() * 1000)


def earliest(client: WireClient, partition: int) -> int:
    part = {"partition_index": partition, "timestamp": -2}
    request = build(ListOffsetsRequest, replica_id=-1, topics=[{"name": ORDERED, "partitions": [part]}])
    return client.call(request, 2).topics[0].partitions[0].offset


def fetch_request(
    topic: str,
    partition: int,
    offset: int,
    *,
    max_wait_ms: int = 0,
    min_bytes: int = 0,
    max_bytes: int = 1 << 20,
) -> FetchRequest:
    part = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": max_bytes}
    return build(
        FetchRequest,
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        session_epoch=-1,
        topics=[{"topic": topic, "partitions": [part]}],
    )


def fetch(client: WireClient, topic: str, partition: int, offset: int):
    return client.call(fetch_request(topic, partition, offset), 11).responses[0].partitions[0]


def produce_request(topic: str, records: list[Record], producer=None) -> Message:
    ids = {}
    if producer is not None:
        ids = {
            "producer_id": producer.producer_id,
            "producer_epoch": producer.producer_epoch,
            "base_sequence": 0,
        }
    parts = [{"index": 0, "records": bytes(build_batch(records, **ids))}]
    return build(
        ProduceRequest,
        transactional_id=None,
        acks=-1,
        timeout_ms=10_000,
        topic_data=[{"name": topic, "partition_data": parts}],
    )


def produce(client: WireClient, topic: str, records: list[Record], producer=None) -> None:
    answer = client.call(produce_request(topic, records, producer), 8).responses[0].partition_responses[0]
    assert answer.error_code == 0, answer


def all_workers(
    address: str, stop: threading.Event, failures: list[str], seed: int, checker: Checker
) -> list[Worker]:
    """One of each kind, and some of those that work together; nobody has started yet."""
    rest = (address, stop, failures, seed)
    workers: list[Worker] = [IdempotentProducer(number, *rest) for number in range(PRODUCERS)]
    workers += [GroupMember(checker, address, stop, failures, seed + number) for number in range(MEMBERS)]
    others = (
        *(ReplayingReader, SlowReader, SlowWriter, DeafClient, Passer),
        *(FetchSessionOpener, NewProducerIds, Administrator, TransactionalProducer),
    )
    workers += [kind(*rest) for kind in others]
    return workers
