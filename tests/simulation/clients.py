"""Clients of a simulated cluster, which take note of what they were told.

They speak the protocol through `barnabas.client`, and behave as the usual clients do: they ask any broker for metadata, send to
leaders, and try again whatever may be tried again. `History` is what they know in the end.
"""

from __future__ import annotations

import asyncio

from barnabas.client.broker_connection import ClientLimits, connect
from barnabas.errors import ErrorCode, KafkaError
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.simulation.loop import Node

__all__ = [
    "RETRIABLE",
    "Client",
    "Committer",
    "History",
    "Producer",
    "Reader",
    "ViolationError",
    "fetch_offset",
]

STALE_S = 30.0
"""How long a broker may lead without knowing that it does not any more, and give answers from then: as long as it is cut off."""

LIMITS = ClientLimits(connect_timeout_ms=3000, request_timeout_ms=5000)
PORT = 9092

RETRIABLE = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ErrorCode.NOT_CONTROLLER,
    )
)


class ViolationError(AssertionError):
    """A client was told something that cannot be."""


class History:
    """What clients know.

    Attributes:
        acknowledged: (topic, partition, value) -> offset, None where the answer did not tell it.
        sent: Values by (topic, partition), in the order in which they were sent, by producer.
        seen: (topic, partition, offset) -> value, of readers.
        committed: Group offsets that were acknowledged, by group; and the highest that was tried.
        transactions: `Transaction` of each.
    """

    def __init__(self):
        self.acknowledged = {}
        self.sent = {}
        self.seen = {}
        self.committed = {}
        self.tried = {}
        self.transactions = []
        self.reads = 0


class Doubts:
    """Answers that can only come from a broker that no longer leads: they must end."""

    def __init__(self, world):
        self.world = world
        self.since = {}

    def clear(self, key):
        self.since.pop(key, None)

    def note(self, key, what):
        """ViolationError if it has been so for too long, with nothing broken any more."""
        now_s = self.world.loop.time()
        since_s = max(self.since.setdefault(key, now_s), self.world.whole_since_s or now_s)
        if now_s - since_s > STALE_S:
            raise ViolationError(f"{what}, for {now_s - since_s:.1f} s")


class Client:
    """Connections to brokers, and what it believes of them."""

    def __init__(self, world, name):
        self.world = world
        self.name = name
        self.node = Node(name)
        self.chance = world.chance
        self.connections = {}
        self.leaders = {}
        self.coordinators = {}
        self.doubts = Doubts(world)
        self.stops = False

    def start(self):
        self.task = self.world.spawn(self.node, self.work(), self.name)

    async def pause(self):
        await asyncio.sleep(0.02 + 0.3 * self.chance.random())

    async def ask(self, node_id, request, version=None, timeout_ms=None):
        """A broker's answer; KafkaError NETWORK_EXCEPTION or REQUEST_TIMED_OUT where there is none."""
        connection = self.connections.get(node_id)
        if connection is None or not connection.is_open:
            connection = await connect(f"n{node_id}", PORT, client_id=self.name, limits=LIMITS)
            self.connections[node_id] = connection
        try:
            return await connection.send(request, version=version, timeout_ms=timeout_ms)
        except KafkaError:
            connection.close()
            self.connections.pop(node_id, None)
            raise

    async def refresh(self, topic):
        """Asks any broker who leads what."""
        node_id = self.chance.choice(sorted(self.world.hosts))
        try:
            answer = await self.ask(
                node_id,
                MetadataRequest(
                    topics=[MetadataRequest.MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False
                ),
                9,
            )
        except KafkaError:
            return
        for found in answer.topics:
            for partition in found.partitions:
                self.leaders[found.name, partition.partition_index] = partition.leader_id

    async def coordinator(self, key, key_type):
        """Which broker coordinates a group (0) or a transactional id (1); None while nobody knows."""
        known = self.coordinators.get((key, key_type))
        if known is not None:
            return known
        node_id = self.chance.choice(sorted(self.world.hosts))
        answer = await self.ask(node_id, FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key]), 4)
        (found,) = answer.coordinators
        if found.error_code:
            raise KafkaError(ErrorCode(found.error_code))
        self.coordinators[key, key_type] = found.node_id
        return found.node_id

    def forget_coordinator(self, key, key_type):
        self.coordinators.pop((key, key_type), None)

    async def produce(self, topic, index, batch, *, transactional_id=None):
        """The answer for one batch: (error code, base offset)."""
        leader = self.leaders.get((topic, index), -1)
        if leader < 0:
            await self.refresh(topic)
            leader = self.leaders.get((topic, index), -1)
            if leader < 0:
                return ErrorCode.LEADER_NOT_AVAILABLE, -1
        data = ProduceRequest.PartitionProduceData(index=index, records=batch)
        request = ProduceRequest(
            transactional_id=transactional_id,
            acks=-1,
            timeout_ms=2500,
            topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])],
        )
        try:
            answer = await self.ask(leader, request, 12)
        except KafkaError as error:
            self.leaders.pop((topic, index), None)
            return error.code, -1
        (partition,) = answer.responses[0].partition_responses
        code = ErrorCode(partition.error_code)
        if code:
            self.leaders.pop((topic, index), None)
        return code, partition.base_offset


class Producer(Client):
    """Sends values with acks=all, idempotently, to all partitions of a topic; one batch of each partition at a time."""

    def __init__(self, world, name, topic, partitions, history):
        super().__init__(world, name)
        self.topic = topic
        self.partitions = partitions
        self.history = history

    async def work(self):
        producer_id, epoch = await self.producer_id()
        tasks = [
            asyncio.get_running_loop().create_task(self.fill(index, producer_id, epoch))
            for index in range(self.partitions)
        ]
        await asyncio.gather(*tasks)

    async def producer_id(self):
        while True:
            node_id = self.chance.choice(sorted(self.world.hosts))
            try:
                answer = await self.ask(
                    node_id, InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000), 4
                )
            except KafkaError:
                await self.pause()
                continue
            if answer.error_code == 0:
                return answer.producer_id, answer.producer_epoch
            await self.pause()

    async def fill(self, index, producer_id, epoch):
        sequence = 0
        number = 0
        sent = self.history.sent.setdefault((self.topic, index), {}).setdefault(self.name, [])
        while not self.stops:
            values = [
                f"{self.name}-{index}-{number + each}".encode() for each in range(self.chance.randint(1, 3))
            ]
            number += len(values)
            sent += values
            now_ms = 1_750_000_000_000 + int(asyncio.get_running_loop().time() * 1000)
            batch = build_batch(
                [(each, now_ms, None, value, ()) for each, value in enumerate(values)],
                producer_id=producer_id,
                producer_epoch=epoch,
                base_sequence=sequence,
            )
            while True:
                code, offset = await self.produce(self.topic, index, bytes(batch))
                if code in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
                    self.doubts.clear(index)
                    break
                what = f"{self.name} got {code.name} for {self.topic}-{index}, sequence {sequence}"
                if code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER:
                    self.doubts.note(index, what)
                elif code not in RETRIABLE:
                    raise ViolationError(what)
                await self.pause()
            if code == ErrorCode.NONE and offset >= 0:
                end_offset = offset + len(values)
                self.world.ledger.acknowledged(
                    self.topic, index, end_offset, f"{self.name} was told so before {end_offset}"
                )
            for each, value in enumerate(values):
                known = None if code else offset + each
                self.history.acknowledged[self.topic, index, value] = known
            self.world.trace("%s: %s-%d %s at %d", self.name, self.topic, index, values, offset)
            sequence += len(values)
            await asyncio.sleep(self.world.temper.pace_s * self.chance.random())


class Reader(Client):
    """Reads all partitions of a topic again and again, sometimes from the beginning, and compares."""

    def __init__(self, world, name, topic, partitions, history, isolation_level=0):
        super().__init__(world, name)
        self.topic = topic
        self.partitions = partitions
        self.history = history
        self.isolation_level = isolation_level
        self.positions = dict.fromkeys(range(partitions), 0)

    async def work(self):
        while not self.stops:
            for index in range(self.partitions):
                await self.read_some(index)
            await self.pause()

    async def read_some(self, index):
        """Reads from where it stands; False where there was nothing or nobody."""
        leader = self.leaders.get((self.topic, index), -1)
        if leader < 0:
            await self.refresh(self.topic)
            leader = self.leaders.get((self.topic, index), -1)
            if leader < 0:
                return False
        position = self.positions[index]
        request = FetchRequest(
            replica_id=-1,
            max_wait_ms=50,
            min_bytes=1,
            max_bytes=1 << 20,
            isolation_level=self.isolation_level,
            session_id=0,
            session_epoch=-1,
            topics=[
                FetchRequest.FetchTopic(
                    topic=self.topic,
                    partitions=[
                        FetchRequest.FetchPartition(
                            partition=index, fetch_offset=position, partition_max_bytes=1 << 20
                        )
                    ],
                )
            ],
        )
        try:
            answer = await self.ask(leader, request, 12)
        except KafkaError:
            self.leaders.pop((self.topic, index), None)
            return False
        if answer.error_code or not answer.responses:
            self.leaders.pop((self.topic, index), None)
            return False
        partition = answer.responses[0].partitions[0]
        code = ErrorCode(partition.error_code)
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self.leaders.pop((self.topic, index), None)
            self.doubts.note(
                index, f"{self.name} at {position} of {self.topic}-{index} is beyond what n{leader} has"
            )
            return False
        self.doubts.clear(index)
        if code:
            if code not in RETRIABLE:
                raise ViolationError(f"{self.name} got {code.name} at {position} of {self.topic}-{index}")
            self.leaders.pop((self.topic, index), None)
            return False
        records = partition.records
        if records is None or not len(records):
            return False
        self.take(index, records, partition.aborted_transactions or ())
        return self.positions[index] > position

    def take(self, index, records, aborted):
        """Notes the records, without those of aborted transactions where it reads only what is committed."""
        records = memoryview(bytes(records))
        waiting = sorted((each.first_offset, each.producer_id) for each in aborted)
        skipped = set()
        for position, header in iterate_headers(records):
            while waiting and waiting[0][0] <= header.last_offset:
                skipped.add(waiting.pop(0)[1])
            batch = records[position : position + header.size_bytes]
            if header.is_control:
                skipped.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in skipped):
                for record in iterate_records(batch):
                    self.note(index, record)
            self.positions[index] = max(self.positions[index], header.next_offset)

    def note(self, index, record):
        if record.offset < self.positions[index]:
            return
        key = (self.topic, index, record.offset)
        value = None if record.value is None else bytes(record.value)
        known = self.history.seen.setdefault(key, value)
        if known != value:
            raise ViolationError(f"{self.topic}-{index} at {record.offset}: {value} was {known} before")
        self.history.reads += 1


async def fetch_offset(client, group, topic, index):
    """What a group has committed for a partition, and which node says so; KafkaError where nobody knows now."""
    node_id = await client.coordinator(group, 0)
    wanted = OffsetFetchRequest.OffsetFetchRequestTopic(name=topic, partition_indexes=[index])
    request = OffsetFetchRequest(group_id=group, topics=[wanted], require_stable=True)
    answer = await client.ask(node_id, request, 7)
    if answer.error_code:
        raise KafkaError(ErrorCode(answer.error_code))
    (partition,) = answer.topics[0].partitions
    if partition.error_code:
        raise KafkaError(ErrorCode(partition.error_code))
    return partition.committed_offset, node_id


class Committer(Client):
    """Commits ever higher offsets for a group, and looks whether they are kept."""

    def __init__(self, world, name, topic, history):
        super().__init__(world, name)
        self.topic = topic
        self.history = history

    async def work(self):
        group = self.name
        offset = 0
        self.history.committed[group] = -1
        while not self.stops:
            try:
                if self.chance.random() < 0.7:
                    offset += 1
                    self.history.tried[group] = offset
                    await self.commit(group, offset)
                else:
                    await self.check(group)
            except KafkaError:
                self.forget_coordinator(group, 0)
            await self.pause()

    async def commit(self, group, offset):
        node_id = await self.coordinator(group, 0)
        part = OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(name=self.topic, partitions=[part])
        answer = await self.ask(node_id, OffsetCommitRequest(group_id=group, topics=[topic]), 8)
        code = ErrorCode(answer.topics[0].partitions[0].error_code)
        if code:
            if code not in RETRIABLE:
                raise ViolationError(f"{group} got {code.name} for a commit")
            raise KafkaError(code)
        self.history.committed[group] = max(self.history.committed[group], offset)
        self.world.trace("%s: committed %d", group, offset)

    async def check(self, group):
        expected = self.history.committed[group]
        known, node_id = await fetch_offset(self, group, self.topic, 0)
        what = f"{group} has committed {expected}, and n{node_id} says {known}"
        if known > self.history.tried.get(group, -1):
            raise ViolationError(what)
        if known < expected:
            self.forget_coordinator(group, 0)
            self.doubts.note(group, what)
            return
        self.doubts.clear(group)
        self.world.trace("%s: n%d knows %d", group, node_id, known)
