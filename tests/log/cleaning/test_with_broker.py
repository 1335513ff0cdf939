"""A broker that compacts: its own topics, and through kill -9."""

from __future__ import annotations

import random

import pytest

from barnabas.log.checkpoints import OffsetCheckpoint
from barnabas.log.files import Files
from barnabas.log.verification.directory import check_directory
from barnabas.log.verification.findings import Findings
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.file_sizes import file_sizes
from tests.transactional_producer import call_until, committed_offset, create_topic, find_coordinator
from tests.wire_client import WireClient

SETTINGS = {
    "log.cleaner.backoff.ms": "20",
    "log.cleaner.min.cleanable.ratio": "0",
    "log.flush.scheduler.interval.ms": "50",
    "log.segment.delete.delay.ms": "100",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.segment.bytes": "1048576",
}


def cleaned(broker, topic):
    checkpoint = OffsetCheckpoint(Files(), broker.data_directory / "cleaner-offset-checkpoint")
    return checkpoint.read().get((topic, 0), 0)


def commit(client, offset):
    request = OffsetCommitRequest(
        group_id="readers",
        generation_id_or_member_epoch=-1,
        topics=[
            OffsetCommitRequest.OffsetCommitRequestTopic(
                name="orders",
                partitions=[
                    OffsetCommitRequest.OffsetCommitRequestPartition(
                        partition_index=0, committed_offset=offset, committed_metadata="m" * 4000
                    )
                ],
            )
        ],
    )
    answer = call_until(
        lambda: client.call(request, 7), lambda answer: answer.topics[0].partitions[0].error_code
    )
    assert answer.topics[0].partitions[0].error_code == 0


@pytest.mark.durability
def test_committed_offsets_are_compacted(tmp_path):
    """The topic of committed offsets stays small however often is committed, and a restart finds the last commit."""
    with BrokerProcess(tmp_path, settings=SETTINGS) as broker:
        with WireClient(broker.bootstrap_server) as client:
            create_topic(client, "orders")
            find_coordinator(client, "readers", 0)
            for offset in range(1, 601):
                commit(client, offset)
            wait_until(lambda: cleaned(broker, "__consumer_offsets") > 500, what="a compaction")
        directory = broker.data_directory / "__consumer_offsets-0"
        wait_until(
            lambda: sum(file_sizes(directory, "*.log").values()) < 1_200_000,
            what="a small topic",
        )
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            find_coordinator(client, "readers", 0)
            assert call_until(
                lambda: committed_offset(client, "readers", "orders"), lambda found: found[0]
            ) == (0, 600)


def produce(client, batch):
    data = ProduceRequest.PartitionProduceData(index=0, records=bytes(batch))
    topic = ProduceRequest.TopicProduceData(name="prices", partition_data=[data])
    answer = client.call(ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[topic]), 9)
    assert answer.responses[0].partition_responses[0].error_code == 0
    return answer.responses[0].partition_responses[0].base_offset


def read_all(client):
    """The last record of each key, and all offsets."""
    offset = 0
    offsets = []
    newest = {}
    while True:
        asked = FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
        topics = [FetchRequest.FetchTopic(topic="prices", partitions=[asked])]
        answer = client.call(FetchRequest(max_wait_ms=0, min_bytes=0, topics=topics), 11)
        (found,) = answer.responses[0].partitions
        assert found.error_code == 0
        data = bytes(found.records or b"")
        if not data:
            return newest, offsets
        for record in iterate_records(data):
            offsets.append(record.offset)
            newest[record.key] = (record.offset, record.value)
        offset = max(header.next_offset for _, header in iterate_headers(data))


@pytest.mark.durability
def test_nothing_is_lost_when_the_broker_is_killed_meanwhile(tmp_path):
    """Kill -9 at some moment of a compaction, or right after one, again and again: the newest record of each key is there, with its offset."""
    chance = random.Random(3)
    newest = {}
    broker = BrokerProcess(tmp_path, settings=SETTINGS)
    with broker:
        with WireClient(broker.bootstrap_server) as client:
            create_topic(client, "prices", cleanup_policy="compact", internal_segment_bytes="3000")
        for number_of_kill in range(6):
            before = cleaned(broker, "prices")
            with WireClient(broker.bootstrap_server) as client:
                for number in range(150):
                    records = [
                        (b"key-%d" % chance.randrange(40), b"%d" % chance.randrange(10**9)) for _ in range(5)
                    ]
                    base = produce(
                        client,
                        build_batch(
                            [(0, 1_700_000_000_000, key, value, ()) for key, value in records],
                            compression=chance.choice([0, 0, 4]),
                        ),
                    )
                    for at, (key, value) in enumerate(records):
                        newest[key] = (base + at, value)
                    if number > 100 and chance.random() < 0.05:
                        break
            if number_of_kill % 2:
                wait_until(lambda known=before: cleaned(broker, "prices") > known, what="a compaction")
            broker.kill()
            broker.start()
            with WireClient(broker.bootstrap_server) as client:
                found, offsets = read_all(client)
                assert found == newest
                assert offsets == sorted(set(offsets))
        assert broker.stop() == 0
    problems = []
    check_directory(
        Files(),
        broker.data_directory,
        Findings(lambda each: problems.append(each) if each.is_problem else None),
    )
    assert problems == []
