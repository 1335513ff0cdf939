"""The same random steps for Apache Kafka 4.3 and for us: every field of every answer is the same.

Two machines: one changes topics and settings and reads and writes records, one commits offsets and lives the life of classic
groups. What must differ is listed, with the reasons, in `likeness.py`. `make differential EXAMPLES=1000` runs many more than
CI does, with a new seed each time, which is printed; `SEED=…` repeats a run.
"""

from __future__ import annotations

import os
import struct
import time

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
)

from barnabas.records.builder import build_batch
from barnabas.records.checksum import crc32c
from barnabas.records.record import Record
from barnabas.wire.messages.alter_configs import AlterConfigsRequest
from barnabas.wire.messages.create_partitions import CreatePartitionsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest
from barnabas.wire.messages.delete_records import DeleteRecordsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_cluster import DescribeClusterRequest
from barnabas.wire.messages.describe_configs import DescribeConfigsRequest
from barnabas.wire.messages.describe_groups import DescribeGroupsRequest
from barnabas.wire.messages.describe_log_dirs import DescribeLogDirsRequest
from barnabas.wire.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.heartbeat import HeartbeatRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.join_group import JoinGroupRequest
from barnabas.wire.messages.leave_group import LeaveGroupRequest
from barnabas.wire.messages.list_config_resources import ListConfigResourcesRequest
from barnabas.wire.messages.list_groups import ListGroupsRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_delete import OffsetDeleteRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest
from barnabas.wire.messages.produce import ProduceRequest
from barnabas.wire.messages.sync_group import SyncGroupRequest
from tests.oracle.building import build
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.machine_runs import DEADLINE_S, run_machine, steps
from tests.oracle.two_brokers import Member, TwoBrokers
from tests.our_broker import our_broker

STEPS = steps(40)

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(DEADLINE_S)]

NOW_MS = int(time.time() * 1000)
NEVER = str(365 * 24 * 3600 * 1000)
TOPIC, BROKER = 2, 4
SETTINGS = {
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    # No session has to give way to another: which one it is is chance in Kafka, whose sessions are in eight caches.
    "max.incremental.fetch.session.cache.slots": "1000000",
    # Nothing happens by itself while both are compared.
    "log.retention.check.interval.ms": NEVER,
    "log.cleaner.backoff.ms": NEVER,
    "offsets.retention.check.interval.ms": NEVER,
}


@pytest.fixture(scope="module")
def two_brokers(tmp_path_factory):
    """Started once; BARNABAS_ORACLE names a Kafka with these settings that runs already."""
    directory = tmp_path_factory.mktemp("pair")
    running = os.environ.get("BARNABAS_ORACLE")
    # Members that wait for partitions are told to come back sooner than Kafka would have them.
    settings = SETTINGS | {"barnabas.group.consumer.waiting.heartbeat.interval.ms": "0"}
    with our_broker(directory / "barnabas", settings) as ours:
        if running:
            yield prepared(TwoBrokers(running, ours.bootstrap_server))
        else:
            with kafka_broker(directory / "kafka", config=SETTINGS) as kafka:
                yield prepared(TwoBrokers(kafka.bootstrap, ours.bootstrap_server))


def prepared(brokers):
    """With a topic for offsets, and `__consumer_offsets` in use."""
    conversation = brokers.conversation()
    orders = [{"name": "orders", "num_partitions": 3, "replication_factor": 1}]
    for side in conversation.sides:
        side.client.call(build(CreateTopicsRequest, topics=orders, timeout_ms=10_000), 5)
        end = time.monotonic() + 30
        while True:
            side.barrier()
            found = side.client.call(FindCoordinatorRequest(key="warm up"), 2).error_code
            listed = side.client.call(ListGroupsRequest(), 4).error_code
            produced = side.client.call(InitProducerIdRequest(transactional_id=None), 1).error_code
            if not found and not listed and not produced:
                break
            assert time.monotonic() < end, (found, listed, produced)
    conversation.close()
    return brokers


def run(machine, brokers, monkeypatch):
    machine.brokers = brokers
    before = brokers.examples, brokers.answers
    run_machine(machine, monkeypatch, examples=20, step_count=STEPS)
    examples, answers = brokers.examples - before[0], brokers.answers - before[1]
    print(f"\n{machine.__name__}: {examples} examples, {answers} answers compared")


def test_topics_and_records(two_brokers, monkeypatch):
    """Whatever is done to topics, settings and records, and however they are read, the answers are Kafka's."""
    run(TopicsAndRecords, two_brokers, monkeypatch)


def test_groups_and_offsets(two_brokers, monkeypatch):
    """Whatever members and administrators of groups do, the answers are Kafka's."""
    run(GroupsAndOffsets, two_brokers, monkeypatch)


def by_topic(parts):
    """(topic, part) pairs as {topic: parts}: Kafka merges a topic that is named twice, and we do not."""
    topics = {}
    for topic, *part in parts:
        topics.setdefault(topic, []).append(part)
    return topics.items()


def versions(lowest, highest):
    return st.integers(lowest, highest)


def _accepted(answer):
    """Whether something in an answer about changes was not refused."""
    lists = [value for name in answer.__slots__ if isinstance(value := getattr(answer, name), list)]
    return any(item.error_code == 0 for items in lists for item in items)


class Steps(RuleBasedStateMachine):
    """What both machines have."""

    brokers: TwoBrokers

    @initialize()
    def begin(self):
        self.both = self.brokers.conversation()

    def teardown(self):
        if hasattr(self, "both"):
            self.brokers.answers += self.both.count
            self.both.close()

    def name(self, index):
        return f"{self.both.prefix}{'abcd'[index]}"


TOPICS = st.integers(0, 2)
PARTITIONS = st.sampled_from([0, 0, 0, 0, 1, 2, 9, -1])
OFFSETS = st.one_of(st.integers(0, 12), st.sampled_from([-1, -2, 30, 2**40]))
EPOCHS = st.sampled_from([-1, -1, -1, 0, 0, 1, 5])
ODD_NAMES = ["", ".", "..", "a b", "é", "x" * 249, "x" * 250, "__cluster_metadata", "a/b"]
TOPIC_CONFIGS = st.sampled_from(
    [
        ("retention.ms", "-1"),
        ("retention.ms", "86400000"),
        ("retention.ms", "-2"),
        ("retention.ms", "x"),
        ("retention.ms", ""),
        ("retention.ms", None),
        ("retention.ms", " 70000 "),
        ("max.message.bytes", "300"),
        ("max.message.bytes", "-1"),
        ("max.message.bytes", "2147483648"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.type", "logappendtime"),
        ("message.timestamp.before.max.ms", "10000"),
        ("message.timestamp.after.max.ms", "10000"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "delete"),
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", "delete, delete"),
        ("cleanup.policy", ""),
        ("cleanup.policy", "bad"),
        ("segment.bytes", "1048576"),
        ("segment.bytes", "10"),
        ("index.interval.bytes", "0"),
        ("min.insync.replicas", "2"),
        ("min.insync.replicas", "1"),
        ("min.insync.replicas", "0"),
        ("unclean.leader.election.enable", "true"),
        ("unclean.leader.election.enable", "TRUE"),
        ("unclean.leader.election.enable", "yes"),
        ("preallocate", "false"),
        ("min.cleanable.dirty.ratio", "0.7"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("compression.type", "producer"),
        ("compression.type", "brotli"),
        ("compression.zstd.level", "99"),
        ("compression.gzip.level", "0"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,1:1"),
        ("leader.replication.throttled.replicas", "x"),
        ("flush.messages", "0"),
        ("local.retention.ms", "-2"),
        ("local.retention.bytes", "-3"),
        ("message.format.version", "3.0"),
        ("no.such.key", "1"),
        ("", "1"),
    ]
)
FLAWS = st.sampled_from(
    [
        None,
        None,
        None,
        None,
        None,
        None,
        "crc",
        "magic",
        "length",
        "count",
        "delta",
        "control",
        "offset",
        "twice",
        "nothing",
        "cut",
        "log append time",
    ]
)


def flawed(batch, flaw):
    batch = bytearray(batch)
    if flaw == "twice":
        return bytes(batch + batch)
    if flaw == "nothing":
        return b""
    if flaw == "cut":
        return bytes(batch[:-3])
    patches = {
        "crc": (17, b"\x01\x02\x03\x04"),
        "magic": (16, b"\x01"),
        "length": (8, struct.pack(">i", 40)),
        "count": (57, struct.pack(">i", 50)),
        "delta": (23, struct.pack(">i", 50)),
        "control": (22, bytes([batch[22] | 0x20])),
        "log append time": (22, bytes([batch[22] | 0x08])),
        "offset": (0, struct.pack(">q", 17)),
    }
    if flaw in patches:
        position, data = patches[flaw]
        batch[position : position + len(data)] = data
        if position > 17:
            batch[17:21] = crc32c(memoryview(batch)[21:]).to_bytes(4, "big")
    return bytes(batch)


BATCHES = st.builds(
    lambda count, codec, producer, value_size, delta_ms, key, flaw: flawed(
        build_batch(
            [
                Record(
                    index,
                    NOW_MS + delta_ms + (index * 7) % 5,
                    key,
                    bytes([65 + index]) * value_size,
                    (("h", b"v"),) if index == 1 else (),
                )
                for index in range(count)
            ],
            compression=codec,
            producer_id=producer[0],
            producer_epoch=producer[1],
            base_sequence=producer[2],
        ),
        flaw,
    ),
    count=st.integers(1, 4),
    codec=st.sampled_from([0, 0, 1, 2, 3, 4]),
    producer=st.one_of(
        st.just((-1, -1, -1)),
        st.tuples(
            st.sampled_from([7001, 7002]),
            st.sampled_from([0, 0, 0, 1, 2, -1]),
            st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, -1, 2**31 - 1, 2**31 - 2]),
        ),
    ),
    value_size=st.sampled_from([0, 1, 10, 400]),
    delta_ms=st.sampled_from([0, 0, -5_000, -60_000, 30_000, 7_200_000, -NOW_MS, -NOW_MS - 1]),
    key=st.sampled_from([b"k", b"", None]),
    flaw=FLAWS,
)


class TopicsAndRecords(Steps):
    """Creates, changes and deletes topics; writes and reads them."""

    @initialize(partitions=st.integers(1, 3))
    def first_topic(self, partitions):
        """Most steps need a topic."""
        self.both = getattr(self, "both", None) or self.brokers.conversation()
        self.session_epoch = None
        self.change(
            lambda _: build(
                CreateTopicsRequest,
                topics=[{"name": self.name(0), "num_partitions": partitions, "replication_factor": 1}],
                timeout_ms=10_000,
            ),
            7,
        )

    def begin(self):
        """Replaced by `first_topic`."""

    def change(self, make, version):
        """A step that changes metadata: what it changed is waited for, if it changed anything."""
        answers = self.both.agree(make, version)
        if answers is None or not any(_accepted(answer) for answer in answers):
            return
        self.both.barrier()
        for side in self.both.sides:
            side.learn_topic_ids([self.name(index) for index in range(4)])

    # ----- topics

    @rule(
        version=versions(2, 7),
        topics=st.lists(
            st.tuples(
                TOPICS,
                st.sampled_from([1, 1, 2, 3, -1, 0, -2]),
                st.sampled_from([1, 1, 1, -1, 2, 0, -2]),
                st.lists(TOPIC_CONFIGS, max_size=2),
            ),
            min_size=1,
            max_size=2,
        ),
        validate_only=st.sampled_from([False, False, False, True]),
    )
    def create_topics(self, version, topics, validate_only):
        self.change(
            lambda _: build(
                CreateTopicsRequest,
                topics=[
                    {
                        "name": self.name(index),
                        "num_partitions": partitions,
                        "replication_factor": replicas,
                        "configs": [{"name": key, "value": value} for key, value in configs],
                    }
                    for index, partitions, replicas, configs in topics
                ],
                timeout_ms=10_000,
                validate_only=validate_only,
            ),
            version,
        )

    @rule(
        version=versions(2, 7),
        name=st.sampled_from(["-a.b", "-a_b", *ODD_NAMES]),
        partitions=st.sampled_from([1, 0]),
    )
    def create_an_oddly_named_topic(self, version, name, partitions):
        full = self.both.prefix + name if name.startswith("-") else name
        self.change(
            lambda _: build(
                CreateTopicsRequest,
                topics=[{"name": full, "num_partitions": partitions, "replication_factor": 1}],
                timeout_ms=10_000,
                validate_only=not name.startswith("-"),
            ),
            version,
        )

    @rule(
        version=versions(2, 7),
        topic=TOPICS,
        assignments=st.lists(
            st.tuples(st.sampled_from([0, 1, 1, 2, -1]), st.lists(st.sampled_from([1, 1, 1, 5]), max_size=2)),
            min_size=1,
            max_size=3,
        ),
        counts=st.sampled_from([(-1, -1), (1, 1), (-1, 1)]),
    )
    def create_an_assigned_topic(self, version, topic, assignments, counts):
        self.change(
            lambda _: build(
                CreateTopicsRequest,
                topics=[
                    {
                        "name": self.name(topic),
                        "num_partitions": counts[0],
                        "replication_factor": counts[1],
                        "assignments": [
                            {"partition_index": index, "broker_ids": ids} for index, ids in assignments
                        ],
                    }
                ],
                timeout_ms=10_000,
            ),
            version,
        )

    @rule(
        version=versions(1, 6),
        topics=st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from(["name", "name", "id", "both", "neither"])),
            min_size=1,
            max_size=2,
        ),
    )
    def delete_topics(self, version, topics):
        def make(side):
            if version < 6:
                names = [self.name(index) for index, _ in topics]
                return DeleteTopicsRequest(topic_names=names, timeout_ms=10_000)
            asked = [
                {
                    "name": self.name(index) if how in ("name", "both") else None,
                    "topic_id": side.topic_id(self.name(index)) if how in ("id", "both") else bytes(16),
                }
                for index, how in topics
            ]
            return build(DeleteTopicsRequest, topics=asked, timeout_ms=10_000)

        self.change(make, version)

    @rule(
        version=versions(0, 3),
        topics=st.lists(
            st.tuples(
                st.integers(0, 3),
                st.sampled_from([1, 2, 3, 4, 0, -1]),
                st.sampled_from([None, None, None, [], [[1]], [[1], [1]], [[5]], [[1, 1]]]),
            ),
            min_size=1,
            max_size=2,
        ),
        validate_only=st.sampled_from([False, False, True]),
    )
    def create_partitions(self, version, topics, validate_only):
        self.change(
            lambda _: build(
                CreatePartitionsRequest,
                topics=[
                    {
                        "name": self.name(index),
                        "count": count,
                        "assignments": assignments and [{"broker_ids": ids} for ids in assignments],
                    }
                    for index, count, assignments in topics
                ],
                timeout_ms=10_000,
                validate_only=validate_only,
            ),
            version,
        )

    @rule(
        version=versions(0, 1),
        topics=st.lists(
            st.tuples(
                st.integers(0, 3),
                st.lists(
                    st.tuples(TOPIC_CONFIGS, st.sampled_from([0, 0, 0, 1, 2, 3])), min_size=1, max_size=3
                ),
            ),
            min_size=1,
            max_size=2,
        ),
        validate_only=st.sampled_from([False, False, True]),
    )
    def change_settings(self, version, topics, validate_only):
        self.change(
            lambda _: build(
                IncrementalAlterConfigsRequest,
                resources=[
                    {
                        "resource_type": TOPIC,
                        "resource_name": self.name(index),
                        "configs": [
                            {"name": key, "config_operation": operation, "value": value}
                            for (key, value), operation in changes
                        ],
                    }
                    for index, changes in topics
                ],
                validate_only=validate_only,
            ),
            version,
        )

    @rule(version=versions(0, 2), topic=st.integers(0, 3), settings=st.lists(TOPIC_CONFIGS, max_size=3))
    def replace_settings(self, version, topic, settings):
        self.change(
            lambda _: build(
                AlterConfigsRequest,
                resources=[
                    {
                        "resource_type": TOPIC,
                        "resource_name": self.name(topic),
                        "configs": [{"name": key, "value": value} for key, value in settings],
                    }
                ],
            ),
            version,
        )

    # ----- what is there

    @rule(
        version=versions(0, 13),
        names=st.one_of(
            st.none(), st.lists(st.one_of(st.integers(0, 3), st.sampled_from(ODD_NAMES)), max_size=3)
        ),
        by_id=st.booleans(),
        operations=st.booleans(),
    )
    def metadata(self, version, names, by_id, operations):
        def topic(side, which):
            if not isinstance(which, int):
                return {"name": which}
            if by_id and version >= 12:
                return {"name": None, "topic_id": side.topic_id(self.name(which))}
            return {"name": self.name(which)}

        self.both.agree(
            lambda side: build(
                MetadataRequest,
                topics=None if names is None else [topic(side, which) for which in names],
                allow_auto_topic_creation=version < 4,
                include_topic_authorized_operations=operations,
                include_cluster_authorized_operations=operations,
            ),
            version,
        )

    @rule(
        topics=st.lists(st.one_of(st.integers(0, 3), st.sampled_from(ODD_NAMES[1:])), min_size=1, max_size=3),
        limit=st.sampled_from([2000, 1, 2, 0, -1]),
        cursor=st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(-1, 4))),
    )
    def describe_topic_partitions(self, topics, limit, cursor):
        named = [self.name(which) if isinstance(which, int) else which for which in topics]
        self.both.agree(
            lambda _: build(
                DescribeTopicPartitionsRequest,
                topics=[{"name": name} for name in named],
                response_partition_limit=limit,
                cursor=cursor and {"topic_name": self.name(cursor[0]), "partition_index": cursor[1]},
            ),
            0,
        )

    @rule(
        version=versions(1, 4),
        topics=st.lists(st.integers(0, 3), min_size=1, max_size=2),
        keys=st.sampled_from(
            [None, None, [], ["retention.ms"], ["no.such.key"], ["cleanup.policy", "max.message.bytes"]]
        ),
        synonyms=st.booleans(),
        documentation=st.booleans(),
    )
    def describe_settings(self, version, topics, keys, synonyms, documentation):
        self.both.agree(
            lambda _: build(
                DescribeConfigsRequest,
                resources=[
                    {"resource_type": TOPIC, "resource_name": self.name(index), "configuration_keys": keys}
                    for index in topics
                ],
                include_synonyms=synonyms,
                include_documentation=documentation,
            ),
            version,
        )

    @rule(version=versions(1, 5), topics=st.lists(st.tuples(st.integers(0, 3), PARTITIONS), max_size=2))
    def describe_log_directories(self, version, topics):
        asked = [{"topic": self.name(index), "partitions": [partition]} for index, partition in topics]
        self.both.agree(lambda _: build(DescribeLogDirsRequest, topics=asked), version, is_repeatable=True)

    @rule(version=versions(0, 2), operations=st.booleans(), endpoint_type=st.sampled_from([1, 1, 3]))
    def describe_cluster(self, version, operations, endpoint_type):
        self.both.agree(
            lambda _: build(
                DescribeClusterRequest,
                include_cluster_authorized_operations=operations,
                endpoint_type=endpoint_type,
            ),
            version,
        )

    @rule(types=st.sampled_from([[TOPIC], [TOPIC, TOPIC], [BROKER], [99], [0]]))
    def list_resources(self, types):
        self.both.agree(lambda _: build(ListConfigResourcesRequest, resource_types=types), 1)

    # ----- writing

    @rule(
        version=versions(3, 13),
        parts=st.lists(
            st.tuples(TOPICS, PARTITIONS, BATCHES), min_size=1, max_size=2, unique_by=lambda part: part[:2]
        ),
        acks=st.sampled_from([-1, -1, 1]),
    )
    def produce(self, version, parts, acks):
        self.both.agree(
            lambda side: build(
                ProduceRequest,
                transactional_id=None,
                acks=acks,
                timeout_ms=10_000,
                topic_data=[
                    {
                        "name": self.name(index),
                        "topic_id": side.topic_id(self.name(index)),
                        "partition_data": [
                            {"index": partition, "records": batch} for partition, batch in inner
                        ],
                    }
                    for index, inner in by_topic(parts)
                ],
            ),
            version,
        )

    @rule(version=versions(3, 13), topic=TOPICS, partition=PARTITIONS, acks=st.sampled_from([5, -2, 2]))
    def produce_with_odd_acks(self, version, topic, partition, acks):
        batch = bytes(build_batch([Record(0, NOW_MS, b"k", b"v", ())]))
        self.produce(version, [(topic, partition, batch)], acks)

    @rule(producer=st.sampled_from([7001, 7002]), epoch=st.sampled_from([0, 0, 1]), start=st.integers(0, 1))
    def produce_in_order(self, producer, epoch, start):
        """Sequences that go on, so that there are duplicates to find."""
        for sequence in range(start, start + 7):
            batch = bytes(
                build_batch(
                    [Record(0, NOW_MS, b"k", b"v", ())],
                    producer_id=producer,
                    producer_epoch=epoch,
                    base_sequence=sequence,
                )
            )
            self.produce(9, [(0, 0, batch)], -1)

    @rule(
        version=versions(0, 2),
        topic=TOPICS,
        parts=st.lists(
            st.tuples(PARTITIONS, OFFSETS), min_size=1, max_size=2, unique_by=lambda part: part[0]
        ),
    )
    def delete_records(self, version, topic, parts):
        self.both.agree(
            lambda _: build(
                DeleteRecordsRequest,
                topics=[
                    {
                        "name": self.name(topic),
                        "partitions": [
                            {"partition_index": index, "offset": offset} for index, offset in parts
                        ],
                    }
                ],
                timeout_ms=10_000,
            ),
            version,
        )

    @rule(version=versions(0, 5), known=st.sampled_from([(-1, -1), (5, 0), (5, -1), (-1, 3), (-5, -5)]))
    def init_producer_id(self, version, known):
        self.both.agree(
            lambda _: build(
                InitProducerIdRequest,
                transactional_id=None,
                transaction_timeout_ms=1000,
                producer_id=known[0],
                producer_epoch=known[1],
            ),
            version,
        )

    # ----- reading

    FETCHED = st.lists(
        st.tuples(TOPICS, PARTITIONS, OFFSETS, st.sampled_from([1 << 20, 100, 1, 0]), EPOCHS, EPOCHS),
        min_size=1,
        max_size=2,
    )

    def fetch_request(self, side, parts, **fields):
        return build(
            FetchRequest,
            **{
                "max_bytes": 1 << 20,
                "max_wait_ms": 0,
                "min_bytes": 0,
                "session_id": 0,
                "session_epoch": -1,
                "topics": [
                    {
                        "topic": self.name(index),
                        "topic_id": side.topic_id(self.name(index)),
                        "partitions": [
                            {
                                "partition": partition,
                                "fetch_offset": offset,
                                "partition_max_bytes": max_bytes,
                                "current_leader_epoch": epoch,
                                "last_fetched_epoch": last_epoch,
                            }
                            for partition, offset, max_bytes, epoch, last_epoch in inner
                        ],
                    }
                    for index, inner in by_topic(parts)
                ],
            }
            | fields,
        )

    @rule(
        version=versions(4, 18),
        parts=FETCHED,
        max_bytes=st.sampled_from([1 << 20, 200, 1, 0]),
        isolation=st.sampled_from([0, 1]),
        min_bytes=st.sampled_from([0, 1]),
    )
    def fetch(self, version, parts, max_bytes, isolation, min_bytes):
        self.both.agree(
            lambda side: self.fetch_request(
                side,
                parts,
                max_bytes=max_bytes,
                isolation_level=isolation,
                min_bytes=min_bytes,
            ),
            version,
        )

    @rule(version=versions(4, 12), index=TOPICS, partition=PARTITIONS)
    def fetch_everything(self, version, index, partition):
        self.both.agree(
            lambda side: self.fetch_request(side, [(index, partition, 0, 1 << 20, -1, -1)]), version
        )

    @rule(version=versions(7, 18), parts=FETCHED)
    def begin_a_session(self, version, parts):
        answers = self.both.agree(lambda side: self.fetch_request(side, parts, session_epoch=0), version)
        if answers and answers[1].session_id:
            for side, answer in zip(self.both.sides, answers, strict=True):
                side.session_id = answer.session_id
            self.session_epoch = 1
            self.session_version = version

    @rule(
        parts=st.one_of(st.just([]), FETCHED),
        forgotten=st.lists(st.tuples(TOPICS, PARTITIONS), max_size=1),
        skip=st.sampled_from([0, 0, 0, 0, 1, -1]),
        other_id=st.sampled_from([0, 0, 0, 0, 0, 1]),
    )
    def go_on_with_the_session(self, parts, forgotten, skip, other_id):
        if self.session_epoch is None:
            return
        answers = self.both.agree(
            lambda side: self.fetch_request(
                side,
                parts,
                session_id=side.session_id + other_id,
                session_epoch=self.session_epoch + skip,
                forgotten_topics_data=[
                    {
                        "topic": self.name(index),
                        "topic_id": side.topic_id(self.name(index)),
                        "partitions": [partition],
                    }
                    for index, partition in forgotten
                ],
            ),
            self.session_version,
        )
        if answers and not skip and not other_id and not answers[1].error_code:
            self.session_epoch += 1

    @rule(parts=FETCHED)
    def end_the_session(self, parts):
        if self.session_epoch is not None:
            self.both.agree(
                lambda side: self.fetch_request(side, parts, session_id=side.session_id),
                self.session_version,
            )
            self.session_epoch = None

    @rule(
        version=versions(1, 11),
        topic=TOPICS,
        parts=st.lists(
            st.tuples(
                PARTITIONS,
                st.sampled_from([-1, -2, -3, -4, -5, -6, -7, 0, NOW_MS - 5_000, NOW_MS, NOW_MS + 4, 2**60]),
                EPOCHS,
            ),
            min_size=1,
            max_size=2,
        ),
        isolation=st.sampled_from([0, 1]),
    )
    def list_offsets(self, version, topic, parts, isolation):
        made = [
            {"partition_index": partition, "timestamp": timestamp, "current_leader_epoch": epoch}
            for partition, timestamp, epoch in parts
        ]
        self.both.agree(
            lambda _: build(
                ListOffsetsRequest,
                replica_id=-1,
                isolation_level=isolation,
                topics=[{"name": self.name(topic), "partitions": made}],
                timeout_ms=5_000,
            ),
            version,
        )

    @rule(version=versions(2, 4), topic=TOPICS, partition=PARTITIONS, epoch=EPOCHS, current=EPOCHS)
    def end_of_epoch(self, version, topic, partition, epoch, current):
        self.both.agree(
            lambda _: build(
                OffsetForLeaderEpochRequest,
                replica_id=-1,
                topics=[
                    {
                        "topic": self.name(topic),
                        "partitions": [
                            {
                                "partition": partition,
                                "leader_epoch": epoch,
                                "current_leader_epoch": current,
                            }
                        ],
                    }
                ],
            ),
            version,
        )


GROUPS = st.sampled_from([0, 0, 0, 1])
MEMBERS = st.sampled_from([0, 0, 1])
WHO = st.sampled_from(["self", "self", "self", "self", "nobody", "ghost", "other"])
INSTANCES = st.sampled_from([None, None, None, None, "i-0", "i-1"])
PROTOCOLS = st.sampled_from(
    [
        [("range", b"a")],
        [("range", b"a")],
        [("range", b"a"), ("sticky", b"b")],
        [("sticky", b"b"), ("range", b"c")],
        [("other", b"")],
    ]
)
PLACES = st.lists(
    st.tuples(st.sampled_from(["orders", "nowhere"]), st.sampled_from([0, 0, 1, 2, 9, -1])), max_size=3
)


class GroupsAndOffsets(Steps):
    """Commits for groups without members, and two members that come and go."""

    @initialize()
    def begin(self):
        self.both = self.brokers.conversation()
        self.both.members = [Member(self.both, number) for number in range(2)]
        for side in self.both.sides:
            side.learn_topic_ids(["orders"])

    def would_repeat(self, number, who):
        """Whether a join or sync would repeat one that waits: Kafka leaves that one waiting, and we answer it."""
        return who == "other" and self.both.members[1 - number].is_parked

    def settle(self):
        """A step may have answered a parked request."""
        for member in self.both.members:
            if member.is_parked:
                member.collect(0.1)

    def ask(self, number, who, make, version, on_answer=lambda *_: None):
        """`make(member id, generation)` as that member, unless it is waiting for an answer."""
        member = self.both.members[number]
        if member.is_parked:
            return
        ids = {
            "self": member.ids,
            "nobody": ["", ""],
            "ghost": ["ghost", "ghost"],
            "other": self.both.members[1 - number].ids,
        }[who]
        own, member.ids = member.ids, list(ids)
        try:
            member.ask(make, version, on_answer)
        finally:
            if member.ids == list(ids):
                member.ids = own
        self.settle()

    @rule(
        version=versions(0, 9),
        number=MEMBERS,
        group=GROUPS,
        who=WHO,
        instance=INSTANCES,
        protocols=PROTOCOLS,
        protocol_type=st.sampled_from(["consumer", "consumer", "consumer", "connect"]),
        session_timeout_ms=st.sampled_from([60_000, 60_000, 60_000, 5_000, 1_800_001]),
    )
    def join(self, version, number, group, who, instance, protocols, protocol_type, session_timeout_ms):
        member = self.both.members[number]
        if self.would_repeat(number, who):
            return

        def joined(theirs, ours):
            if ours.error_code in (0, 79):
                member.ids = [theirs.member_id, ours.member_id]
            if not ours.error_code:
                member.generation = ours.generation_id
                member.group = group

        self.ask(
            number,
            who,
            lambda member_id: build(
                JoinGroupRequest,
                group_id=self.name(group),
                session_timeout_ms=session_timeout_ms,
                rebalance_timeout_ms=90_000,
                member_id=member_id,
                group_instance_id=instance,
                protocol_type=protocol_type,
                protocols=[{"name": name, "metadata": metadata} for name, metadata in protocols],
            ),
            version,
            joined,
        )

    @rule(number=MEMBERS, group=GROUPS)
    def join_properly(self, number, group):
        self.join(4, number, group, "self", None, [("range", b"a")], "consumer", 60_000)
        self.join(4, number, group, "self", None, [("range", b"a")], "consumer", 60_000)

    @rule(
        version=versions(0, 5),
        number=MEMBERS,
        group=GROUPS,
        who=WHO,
        instance=INSTANCES,
        later=st.sampled_from([0, 0, 0, 0, 1, -1]),
        protocol=st.sampled_from(
            [
                ("consumer", "range"),
                ("consumer", "range"),
                ("consumer", "sticky"),
                (None, None),
                ("x", "range"),
            ]
        ),
        is_assigning=st.booleans(),
    )
    def sync(self, version, number, group, who, instance, later, protocol, is_assigning):
        members = self.both.members
        generation = members[number].generation + later
        if self.would_repeat(number, who):
            return

        def make(member_id):
            which = 0 if member_id == members[number].ids[0] and member_id else 1
            assignments = [
                {"member_id": member.ids[which], "assignment": b"for %d" % index}
                for index, member in enumerate(members)
            ]
            return build(
                SyncGroupRequest,
                group_id=self.name(group),
                generation_id=generation,
                member_id=member_id,
                group_instance_id=instance,
                protocol_type=protocol[0],
                protocol_name=protocol[1],
                assignments=assignments if is_assigning else [],
            )

        self.ask(number, who, make, version)

    @rule(number=MEMBERS, group=GROUPS)
    def sync_properly(self, number, group):
        self.sync(5, number, group, "self", None, 0, ("consumer", "range"), True)

    @rule(
        version=versions(0, 4),
        number=MEMBERS,
        group=GROUPS,
        who=WHO,
        instance=INSTANCES,
        later=st.sampled_from([0, 0, 0, 1, -1]),
    )
    def heartbeat(self, version, number, group, who, instance, later):
        generation = self.both.members[number].generation + later
        self.ask(
            number,
            who,
            lambda member_id: build(
                HeartbeatRequest,
                group_id=self.name(group),
                generation_id=generation,
                member_id=member_id,
                group_instance_id=instance,
            ),
            version,
        )

    @rule(version=versions(0, 5), number=MEMBERS, group=GROUPS, who=WHO, instance=INSTANCES)
    def leave(self, version, number, group, who, instance):
        if (
            who in ("self", "other")
            and self.both.members[number if who == "self" else 1 - number].generation < 0
        ):
            return  # with the last id that was given out, and not used, a new group is gone with us, and not with Kafka
        self.ask(
            number,
            who,
            lambda member_id: build(
                LeaveGroupRequest,
                **{"group_id": self.name(group)}
                | (
                    {"member_id": member_id}
                    if version < 3
                    else {"members": [{"member_id": member_id, "group_instance_id": instance}]}
                ),
            ),
            version,
        )

    @rule(
        version=versions(2, 10),
        number=MEMBERS,
        group=GROUPS,
        who=st.sampled_from(["nobody", "nobody", "nobody", "self", "self", "ghost"]),
        instance=INSTANCES,
        later=st.sampled_from([None, None, 0, 0, 1]),
        places=PLACES,
        offset=st.sampled_from([0, 5, 2**40, -1, -2]),
        epoch=EPOCHS,
        note=st.sampled_from(["", "note", None, "x" * 4096, "x" * 4097]),
    )
    def commit(self, version, number, group, who, instance, later, places, offset, epoch, note):
        generation = -1 if later is None else self.both.members[number].generation + later
        # A commit that keeps nothing leaves an empty group in Kafka's memory, and nothing with us.
        kept = [("orders", 0, ""), *((*place, note) for place in places)]
        ids = iter(self.both.sides)

        def make(member_id):
            side = next(ids)
            return build(
                OffsetCommitRequest,
                group_id=self.name(group),
                generation_id_or_member_epoch=generation,
                member_id=member_id,
                group_instance_id=instance,
                topics=[
                    {
                        "name": name,
                        "topic_id": side.topic_id(name),
                        "partitions": [
                            {
                                "partition_index": partition,
                                "committed_offset": offset,
                                "committed_leader_epoch": epoch,
                                "committed_metadata": words,
                            }
                            for partition, words in inner
                        ],
                    }
                    for name, inner in by_topic(kept)
                ],
            )

        self.ask(number, who, make, version)

    @rule(
        version=versions(1, 10),
        groups=st.lists(GROUPS, min_size=1, max_size=2, unique=True),
        places=st.one_of(st.none(), PLACES),
        stable=st.booleans(),
    )
    def fetch_offsets(self, version, groups, places, stable):
        def make(side):
            if version < 8:
                return build(
                    OffsetFetchRequest,
                    group_id=self.name(groups[0]),
                    topics=places
                    and [
                        {"name": name, "partition_indexes": [partition for (partition,) in inner]}
                        for name, inner in by_topic(places)
                    ],
                    require_stable=stable,
                )
            return build(
                OffsetFetchRequest,
                groups=[
                    {
                        "group_id": self.name(group),
                        "topics": places
                        and [
                            {
                                "name": name,
                                "topic_id": side.topic_id(name),
                                "partition_indexes": [partition for (partition,) in inner],
                            }
                            for name, inner in by_topic(places)
                        ],
                    }
                    for group in groups
                ],
                require_stable=stable,
            )

        self.both.agree(make, version, is_repeatable=True)

    @rule(group=GROUPS, places=PLACES)
    def delete_offsets(self, group, places):
        self.both.agree(
            lambda _: build(
                OffsetDeleteRequest,
                group_id=self.name(group),
                topics=[
                    {"name": name, "partitions": [{"partition_index": partition} for (partition,) in inner]}
                    for name, inner in by_topic(places)
                ],
            ),
            0,
        )

    @rule(version=versions(0, 2), groups=st.lists(st.integers(0, 2), min_size=1, max_size=2))
    def delete_groups(self, version, groups):
        self.both.agree(
            lambda _: DeleteGroupsRequest(groups_names=[self.name(group) for group in groups]), version
        )
        self.settle()

    @rule(
        version=versions(0, 6),
        groups=st.lists(st.integers(0, 2), min_size=1, max_size=2),
        operations=st.booleans(),
    )
    def describe_groups(self, version, groups, operations):
        self.both.agree(
            lambda _: build(
                DescribeGroupsRequest,
                groups=[self.name(group) for group in groups],
                include_authorized_operations=operations,
            ),
            version,
            is_repeatable=True,
        )

    @rule(
        version=versions(0, 5),
        states=st.sampled_from([[], [], ["Stable"], ["empty", "Dead"], ["PreparingRebalance"], ["x"]]),
        types=st.sampled_from([[], [], ["classic"], ["Consumer"]]),
    )
    def list_groups(self, version, states, types):
        self.both.agree(
            lambda _: ListGroupsRequest(states_filter=list(states), types_filter=list(types)),
            version,
            is_repeatable=True,
        )

    @rule(version=versions(0, 6), keys=st.lists(GROUPS, max_size=2))
    def find_coordinator(self, version, keys):
        self.both.agree(
            lambda _: build(
                FindCoordinatorRequest,
                **(
                    {"key": self.name(keys[0]) if keys else ""}
                    if version < 4
                    else {"coordinator_keys": [self.name(key) for key in keys]}
                ),
            ),
            version,
        )
