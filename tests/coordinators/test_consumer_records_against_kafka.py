"""What consumer groups leave in `__consumer_offsets`: the same records as Apache Kafka's, and each reads the other's."""

import json
import re
import time

import pytest

from barnabas.coordinators.group.consumer.topics import TopicCatalog
from barnabas.metadata.image import MetadataImage
from barnabas.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from barnabas.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.coordinators.group.conversation import Coordinator
from tests.coordinators.requests import TOPIC
from tests.coordinators.test_against_kafka import prepare
from tests.coordinators.test_records_against_kafka import SEGMENT, records
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.kafka_jars import run_java
from tests.wire_client import WireClient

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

SETTINGS = {
    "offsets.topic.num.partitions": "1",
    "group.consumer.assignment.interval.ms": "0",
    "group.consumer.assignors": "range",
}


def converse(address):
    """Two members settle, one is static and comes back, one subscribes to a pattern, all leave; another group stays."""
    with WireClient(address, client_id="c") as client:

        def beat(member, epoch, owned=None, group="orders", **fields):
            answer = client.call(
                ConsumerGroupHeartbeatRequest(
                    group_id=group,
                    member_id=member,
                    member_epoch=epoch,
                    topic_partitions=None
                    if owned is None
                    else [
                        ConsumerGroupHeartbeatRequest.TopicPartitions(
                            topic_id=each.topic_id, partitions=each.partitions
                        )
                        for each in owned
                    ],
                    **fields,
                ),
                1,
            )
            assert answer.error_code == 0, answer
            return answer

        def join(member, **fields):
            fields = {"subscribed_topic_names": [TOPIC], "rebalance_timeout_ms": 60_000} | fields
            return beat(member, 0, [], **fields)

        def settle(epochs):
            for _ in range(4):
                for member, (epoch, known, instance) in list(epochs.items()):
                    owned = known
                    answer = beat(member, epoch, owned, instance_id=instance)
                    if answer.assignment is not None:
                        owned = answer.assignment.topic_partitions
                    epochs[member] = (answer.member_epoch, owned, instance)

        first = join("a", rack_id="r1")
        second = join("b", instance_id="i1")
        members = {
            "a": (first.member_epoch, first.assignment.topic_partitions, None),
            "b": (second.member_epoch, second.assignment.topic_partitions, "i1"),
        }
        settle(members)
        beat("b", -2, instance_id="i1")
        again = join("b2", instance_id="i1")
        members["b2"] = (again.member_epoch, again.assignment.topic_partitions, "i1")
        del members["b"]
        settle(members)
        join(
            "p", subscribed_topic_names=None, subscribed_topic_regex=f"{TOPIC}|none", server_assignor="range"
        )
        described = ConsumerGroupDescribeRequest(group_ids=["orders"])
        wait_until(
            lambda: client.call(described, 1).groups[0].group_epoch == 4, what="the pattern is matched"
        )
        for member, instance in (("a", None), ("b2", "i1"), ("p", None)):
            beat(member, -1, instance_id=instance)
        join("x", group="billing")
        time.sleep(0.1)
        (group,) = client.call(ConsumerGroupDescribeRequest(group_ids=["billing"]), 1).groups
        return group


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    with kafka_broker(tmp_path_factory.mktemp("kafka"), config=SETTINGS) as broker:
        prepare(broker.bootstrap)
        group = converse(broker.bootstrap)
        yield broker.data_directory / SEGMENT, group


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    with BrokerProcess(tmp_path_factory.mktemp("barnabas"), settings=SETTINGS) as broker:
        prepare(broker.bootstrap_server)
        group = converse(broker.bootstrap_server)
        yield broker.data_directory / SEGMENT, group


def decoded_by_kafka(segment):
    """(key, value) pairs as Kafka's own decoder writes them; ids, hashes and times that must differ are replaced."""
    done = run_java(
        "org.apache.kafka.tools.DumpLogSegments",
        ["--offsets-decoder", "--deep-iteration", "--print-data-log", "--files", str(segment)],
    )
    topic_ids = {}
    hashes = {}
    found = []
    for key, value in re.findall(r"key: (\{.*?\}) payload: (<DELETE>|\{.*\})", done.stdout):
        if "warm up" in key:
            continue
        text = re.sub(
            r'"topicId":"([^"]+)"',
            lambda each: f'"topicId":"{topic_ids.setdefault(each[1], len(topic_ids))}"',
            value,
        )
        text = re.sub(
            r'"metadataHash":(-?\d+)',
            lambda each: f'"metadataHash":{hashes.setdefault(each[1], len(hashes))}',
            text,
        )
        text = re.sub(r'"(assignmentTimestamp|timestamp|version)":\d{3,}', r'"\1":"some"', text)
        if '"regularExpression"' in key:
            text = re.sub(r'"version":\d+,"timestamp"', '"version":"some","timestamp"', text)
        found.append((json.loads(key), None if text == "<DELETE>" else json.loads(text)))
    return found


def test_the_records_are_the_same(kafka, ours):
    """Types, versions and fields, in the same order but for what lies in a hash map."""
    theirs, mine = decoded_by_kafka(kafka[0]), decoded_by_kafka(ours[0])
    assert len(mine) == len(records(ours[0])), "Kafka's decoder understands each of our records"
    assert sorted(map(repr, mine)) == sorted(map(repr, theirs))
    assert {key["type"] for key, _ in mine} == {"3", "4", "5", "6", "7", "8", "16"} - (
        {"4"} - {key["type"] for key, _ in theirs}
    )


def test_we_read_kafkas(kafka):
    """Its log replayed gives the group that it describes."""
    segment, told = kafka
    coordinator = Coordinator(TopicCatalog(MetadataImage("cluster")))
    for offset, (key, value) in enumerate(records(segment)):
        coordinator.shard.replay(offset, -1, -1, key, value)
    group = coordinator.group("billing")
    assert (group.state.value, group.group_epoch, group.assignment_epoch) == (
        told.group_state,
        told.group_epoch,
        told.assignment_epoch,
    )
    (member,) = group.members.values()
    (described,) = told.members
    assert (member.member_id, member.member_epoch) == (described.member_id, described.member_epoch)
    assert member.topic_names == set(described.subscribed_topic_names)
    (topic,) = described.assignment.topic_partitions
    assert member.assigned == {bytes(topic.topic_id): dict.fromkeys(topic.partitions, member.member_epoch)}
    assert coordinator.group("orders").state.value == "Empty"
