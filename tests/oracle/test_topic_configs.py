"""Every topic setting does what it does in Apache Kafka 4.3, or is refused as there: a table, of which nothing is left out."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from barnabas.config.topic import TOPIC_KEYS
from barnabas.errors import ErrorCode
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.broker_process import wait_until
from tests.file_sizes import file_sizes
from tests.oracle.conftest import Pair
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.leaders import wait_until_led
from tests.our_broker import our_broker
from tests.transactional_producer import create_topic

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

SETTINGS = {
    "auto.create.topics.enable": "false",
    "log.retention.check.interval.ms": "200",
    "log.initial.task.delay.ms": "100",
}
ROOT = Path(__file__).resolve().parents[2]

ELSEWHERE = {
    "flush.messages": "tests/log/test_upkeep.py",
    "flush.ms": "tests/log/test_upkeep.py",
    "delete.retention.ms": "tests/oracle/log/test_compaction.py",
    "min.compaction.lag.ms": "tests/log/cleaning/test_assessment.py",
    "min.cleanable.dirty.ratio": "tests/log/cleaning/test_assessment.py",
    "compression.type": "tests/oracle/test_recompression.py",
    "compression.gzip.level": "tests/oracle/test_recompression.py",
    "compression.lz4.level": "tests/oracle/test_recompression.py",
    "compression.zstd.level": "tests/oracle/test_recompression.py",
    "leader.replication.throttled.replicas": "tests/replication/test_replication_quota.py",
    "follower.replication.throttled.replicas": "tests/replication/test_replication_quota.py",
    "unclean.leader.election.enable": "tests/controller",
}
"""Where other settings are tested."""

NO_EFFECT = {"remote.log.copy.disable", "remote.log.delete.on.disable"}
"""Accepted, as by Apache Kafka, and without effect: there is no remote storage."""

_numbers = itertools.count()


class Table(Pair):
    """Both brokers, and where their data lies."""

    def __init__(self, kafka, ours):
        super().__init__(kafka.bootstrap, ours.bootstrap_server)
        self._theirs, self._ours = kafka, ours

    @property
    def clients(self):
        return (self.kafka, self.ours)

    def create(self, **configs):
        name = f"topic-{next(_numbers)}"
        for client in self.clients:
            create_topic(client, name, **configs)
            wait_until_led(client, name)
        return name

    def produce(self, topic, batch, *, acks=-1):
        """What both answer."""
        data = ProduceRequest.PartitionProduceData(index=0, records=bytes(batch))
        request = ProduceRequest(
            acks=acks,
            timeout_ms=10_000,
            topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])],
        )
        return [client.call(request, 9).responses[0].partition_responses[0] for client in self.clients]

    def fill(self, topic, batches):
        for batch in batches:
            assert [answer.error_code for answer in self.produce(topic, batch)] == [0, 0]

    def agree_on_errors(self, topic, batch, **options):
        theirs, ours = self.produce(topic, batch, **options)
        assert theirs.error_code == ours.error_code
        assert [error.batch_index for error in theirs.record_errors] == [
            error.batch_index for error in ours.record_errors
        ]
        return ours.error_code

    def files(self, topic, suffix=".log"):
        """Name and size of files of both."""
        return [
            list(file_sizes(directory, f"*{suffix}").items())
            for directory in (
                self._theirs.data_directory / f"{topic}-0",
                self.ours_at(topic),
            )
        ]

    def ours_at(self, topic):
        """Our directory of the partition."""
        return self._ours.partition_directory(topic)

    def segments(self, topic):
        """Where the segments begin, the same with both."""
        theirs, ours = ([name for name, _ in found] for found in self.files(topic))
        assert ours == theirs
        return [int(name.removesuffix(".log")) for name in ours]

    def starts(self, topic):
        """The first offset with each."""
        request = ListOffsetsRequest(
            replica_id=-1,
            topics=[
                ListOffsetsRequest.ListOffsetsTopic(
                    name=topic,
                    partitions=[ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=-2)],
                )
            ],
        )
        return [client.call(request, 5).topics[0].partitions[0].offset for client in self.clients]

    def headers(self, topic):
        asked = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            topics=[FetchRequest.FetchTopic(topic=topic, partitions=[asked])],
        )
        answers = [client.call(request, 11).responses[0].partitions[0] for client in self.clients]
        return [[header for _, header in iterate_headers(bytes(answer.records))] for answer in answers]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    directory = tmp_path_factory.mktemp("table")
    with (
        our_broker(directory / "barnabas", SETTINGS) as ours,
        kafka_broker(directory / "kafka", config=SETTINGS) as kafka,
    ):
        found = Table(kafka, ours)
        yield found
        found.close()


def now():
    return int(time.time() * 1000)


def batch(*times, size=10, key=b"key", codec=0):
    records = [(0, time_ms, key, b"v" * size, ()) for time_ms in times or (now(),)]
    return build_batch(records, compression=codec)


def segment_bytes(table):
    topic = table.create(segment_bytes="1048576")
    table.fill(topic, [batch(size=400_000) for _ in range(5)])
    assert table.segments(topic) == [0, 2, 4]


def internal_segment_bytes(table):
    topic = table.create(internal_segment_bytes="1000")
    table.fill(topic, [batch(size=400) for _ in range(5)])
    assert table.segments(topic) == [0, 2, 4]


def segment_ms(table):
    topic = table.create(segment_ms="10000")
    start = now()
    table.fill(topic, [batch(start + at) for at in (0, 10_000, 10_001, 20_001, 20_002)])
    assert table.segments(topic) == [0, 2, 4]


def segment_jitter_ms(table):
    topic = table.create(segment_ms="100000", segment_jitter_ms="50000")
    start = now()
    table.fill(topic, [batch(start + at) for at in (0, 40_000, 100_001)])
    assert table.segments(topic) == [0, 2]


def segment_index_bytes(table):
    topic = table.create(segment_index_bytes="40", index_interval_bytes="1")
    table.fill(topic, [batch() for _ in range(20)])
    assert len(table.segments(topic)) > 2


def index_interval_bytes(table):
    topic = table.create(index_interval_bytes="500", internal_segment_bytes="5000")
    start = now()
    table.fill(topic, [batch(start + number, size=100) for number in range(60)])
    first = table.segments(topic)[0]
    for suffix in (".index", ".timeindex"):
        theirs, ours = (dict(found)[f"{first:020d}{suffix}"] for found in table.files(topic, suffix))
        assert ours == theirs > 8


def retention_bytes(table):
    topic = table.create(retention_bytes="1000", internal_segment_bytes="500", retention_ms="-1")
    table.fill(topic, [batch(size=300) for _ in range(6)])
    wait_until(lambda: table.starts(topic) == [3, 3], what="retention")


def retention_ms(table):
    topic = table.create(retention_ms="3600000", segment_ms="1000")
    table.fill(topic, [batch(now() - 7_200_000), batch(now() - 7_100_000), batch(now())])
    wait_until(lambda: table.starts(topic) == [2, 2], what="retention")


def cleanup_policy(table):
    for policy in ("", "compact"):
        topic = table.create(cleanup_policy=policy, retention_ms="1", segment_ms="1000")
        table.fill(topic, [batch(now() - 7_200_000), batch(now() - 7_100_000), batch(now())])
        assert table.segments(topic) == [0, 1, 2]
    both = table.create(cleanup_policy="compact,delete", retention_ms="3600000", segment_ms="1000")
    table.fill(both, [batch(now() - 7_200_000), batch(now() - 7_100_000), batch(now())])
    wait_until(lambda: table.starts(both) == [2, 2], what="retention")
    for codec in (0, 1, 2, 3, 4):
        records = build_batch(
            [(0, now(), key, b"value", ()) for key in (b"key", None, b"key", None)], compression=codec
        )
        assert table.agree_on_errors(topic, records) == ErrorCode.INVALID_RECORD
        assert table.agree_on_errors(topic, batch(codec=codec)) == 0


def max_compaction_lag_ms(table):
    topic = table.create(cleanup_policy="compact", max_compaction_lag_ms="10000", segment_ms="100000")
    start = now()
    table.fill(topic, [batch(start + at) for at in (0, 10_000, 10_001)])
    assert table.segments(topic) == [0, 2]


def file_delete_delay_ms(table):
    for delay_ms, remain in (("3600000", True), ("0", False)):
        topic = table.create(
            file_delete_delay_ms=delay_ms,
            retention_bytes="100",
            internal_segment_bytes="500",
            retention_ms="-1",
        )
        table.fill(topic, [batch(size=300) for _ in range(3)])
        wait_until(lambda name=topic: table.starts(name) == [2, 2], what="retention")
        wait_until(
            lambda name=topic, wanted=remain: (
                [
                    any(file.startswith("0" * 20 + ".log") for file, _ in found)
                    for found in table.files(name, ".deleted")
                ]
                == [wanted, wanted]
            ),
            what="deletion",
        )


def max_message_bytes(table):
    topic = table.create(max_message_bytes="1000")
    assert table.agree_on_errors(topic, batch(size=900)) == 0
    assert table.agree_on_errors(topic, batch(size=1000)) == ErrorCode.MESSAGE_TOO_LARGE


def min_insync_replicas(table):
    topic = table.create(min_insync_replicas="2")
    table.agree_on_errors(topic, batch())
    assert table.agree_on_errors(topic, batch(), acks=1) == 0


def message_timestamp_type(table):
    topic = table.create(message_timestamp_type="LogAppendTime")
    before = now()
    table.fill(topic, [batch(1, 2, 3)])
    for headers in table.headers(topic):
        assert headers[0].is_log_append_time
        assert before <= headers[0].max_timestamp <= now()


def message_timestamp_before_max_ms(table):
    topic = table.create(message_timestamp_before_max_ms="60000")
    assert table.agree_on_errors(topic, batch(now() - 30_000)) == 0
    assert table.agree_on_errors(topic, batch(now() - 90_000)) == ErrorCode.INVALID_TIMESTAMP


def message_timestamp_after_max_ms(table):
    topic = table.create(message_timestamp_after_max_ms="60000")
    assert table.agree_on_errors(topic, batch(now() + 30_000)) == 0
    assert table.agree_on_errors(topic, batch(now(), now() + 90_000, now())) == ErrorCode.INVALID_TIMESTAMP


def preallocate(table):
    topic = table.create(preallocate="true", segment_bytes="8388608", segment_ms="1000")
    start = now()
    table.fill(topic, [batch(start), batch(start + 5000), batch(start + 5001)])
    directory = table.ours_at(topic)
    closed, active = (directory / f"{base:020d}.log" for base in table.segments(topic))
    assert active.stat().st_size < 1000
    assert active.stat().st_blocks * 512 >= 8_388_608
    assert closed.stat().st_blocks * 512 < 100_000


def creations(table, name, value):
    """What both say to a topic with one setting."""
    request = CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(
                name=f"topic-{next(_numbers)}",
                num_partitions=1,
                replication_factor=1,
                configs=[CreateTopicsRequest.CreatableTopicConfig(name=name, value=value)],
            )
        ],
        timeout_ms=10_000,
    )
    return [client.call(request, 5).topics[0] for client in table.clients]


def remote_storage_enable(table):
    theirs, ours = creations(table, "remote.storage.enable", "true")
    assert (ours.error_code, ours.error_message) == (theirs.error_code, theirs.error_message)
    assert ours.error_code == ErrorCode.INVALID_CONFIG
    assert [answer.error_code for answer in creations(table, "remote.storage.enable", "false")] == [0, 0]


def local_retention(table, name):
    """Kafka takes it and does nothing; here it is refused, unless it has its default, as whoever copies settings has it."""
    theirs, ours = creations(table, name, "1000")
    assert theirs.error_code == 0
    assert ours.error_code == ErrorCode.INVALID_CONFIG
    assert "remote storage" in ours.error_message
    assert f"set {name.removeprefix('local.')} instead" in ours.error_message
    assert [answer.error_code for answer in creations(table, name, "-2")] == [0, 0]
    theirs, ours = creations(table, name, "-3")
    assert (ours.error_code, ours.error_message) == (theirs.error_code, theirs.error_message)
    assert ours.error_code == ErrorCode.INVALID_CONFIG


def local_retention_ms(table):
    local_retention(table, "local.retention.ms")


def local_retention_bytes(table):
    local_retention(table, "local.retention.bytes")


HERE = {
    check.__name__.replace("_", "."): check
    for check in (
        cleanup_policy,
        file_delete_delay_ms,
        index_interval_bytes,
        internal_segment_bytes,
        local_retention_bytes,
        local_retention_ms,
        max_compaction_lag_ms,
        max_message_bytes,
        message_timestamp_after_max_ms,
        message_timestamp_before_max_ms,
        message_timestamp_type,
        min_insync_replicas,
        preallocate,
        remote_storage_enable,
        retention_bytes,
        retention_ms,
        segment_bytes,
        segment_index_bytes,
        segment_jitter_ms,
        segment_ms,
    )
}


def test_nothing_is_left_out():
    """Each setting is tested here or there, or is known to have no effect."""
    assert HERE.keys() | ELSEWHERE.keys() | NO_EFFECT == TOPIC_KEYS.keys()
    assert all((ROOT / path).exists() for path in ELSEWHERE.values())
    assert {name for name, key in TOPIC_KEYS.items() if not key.effective} == NO_EFFECT | {
        "remote.storage.enable",
        "local.retention.ms",
        "local.retention.bytes",
    }


@pytest.mark.parametrize("name", sorted(HERE))
def test_it_does_what_it_does_in_kafka(table, name):
    """The same segments, files, offsets, refusals and stored batches with both."""
    HERE[name](table)


@pytest.mark.parametrize("name", sorted(NO_EFFECT))
def test_what_has_no_effect_is_accepted(table, name):
    """As by Apache Kafka without remote storage; nothing changes."""
    topic = table.create(**{name.replace(".", "_"): "true"})
    table.fill(topic, [batch()])
    assert table.segments(topic) == [0]
