"""What lies in `__consumer_offsets` after the same conversation: Apache Kafka's records and ours, and each read by the other."""

import json
import re
import time

import pytest

from barnabas.coordinators.group.records import decode_key, decode_value
from barnabas.records.record import iterate_records
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest
from barnabas.wire.messages.group.group_metadata_key import GroupMetadataKey
from barnabas.wire.messages.group.group_metadata_value import GroupMetadataValue
from barnabas.wire.messages.group.offset_commit_value import OffsetCommitValue
from tests.broker_process import BrokerProcess
from tests.coordinators.group.conversation import Coordinator, fetched
from tests.coordinators.requests import join, leave, offset_commit
from tests.coordinators.test_against_kafka import UUID, prepare, stable_member
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.kafka_jars import run_java
from tests.wire_client import WireClient

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

SETTINGS = {"offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "0"}
SEGMENT = "__consumer_offsets-0/00000000000000000000.log"


def converse(address):
    """A life of groups: static and dynamic members, offsets with every field, groups that are left and deleted."""
    with WireClient(address, client_id="c") as client:

        def say(request, version):
            return client.call(request, version)

        member = stable_member(say, "orders")
        mine = {"generation_id_or_member_epoch": 1, "member_id": member.member_id}
        say(offset_commit("orders", version=8, topics={"orders": [0, 1]}, **mine), 8)
        static = stable_member(say, "billing", instance="i-1")
        say(join("billing", 9, instance="i-1"), 9)
        say(offset_commit("simple", version=3, retention_time_ms=60_000_000), 3)
        say(offset_commit("simple", version=9, metadata="ein Vermerk: äöü"), 9)
        say(offset_commit("gone", version=5), 5)
        say(leave("orders", 5, (member.member_id, None)), 5)
        say(DeleteGroupsRequest(groups_names=["gone"]), 2)
        return static


@pytest.fixture(scope="module")
def kafka_segment(tmp_path_factory):
    with kafka_broker(tmp_path_factory.mktemp("kafka"), config=SETTINGS) as broker:
        prepare(broker.bootstrap)
        converse(broker.bootstrap)
        yield broker.data_directory / SEGMENT


@pytest.fixture(scope="module")
def our_segment(tmp_path_factory):
    with BrokerProcess(tmp_path_factory.mktemp("barnabas"), settings=SETTINGS) as broker:
        prepare(broker.bootstrap_server)
        converse(broker.bootstrap_server)
        yield broker.data_directory / SEGMENT


def records(segment):
    """Key and value of each record; those of the preparation are left out."""
    return [
        (record.key, record.value)
        for record in iterate_records(segment.read_bytes())
        if b"warm up" not in record.key
    ]


def told(segment):
    """Keys as they are; values with ids and times that brokers make up replaced."""
    members = {}

    def name(text):
        return UUID.sub(lambda found: members.setdefault(found[0], f"<{len(members) + 1}>"), text)

    found = []
    for key, value in records(segment):
        number, parsed = decode_key(key)
        if value is None:
            found.append((number, repr(parsed), None))
            continue
        is_group = isinstance(parsed, GroupMetadataKey)
        message = decode_value(value, GroupMetadataValue if is_group else OffsetCommitValue)
        if is_group:
            if message.generation == 0:
                continue  # Kafka writes a new group down before it has members, and needs to
            message.current_state_timestamp = 0
        else:
            message.commit_timestamp = 0
            message.expire_timestamp = min(message.expire_timestamp, 0)
            message.topic_id = bytes(len(message.topic_id.strip(b"\0")) > 0)
        found.append((number, repr(parsed), value[:2], name(repr(message))))
    return found


def test_the_records_are_the_same(kafka_segment, our_segment):
    """Record types, versions and fields, in the same order."""
    assert told(our_segment) == told(kafka_segment)


def test_kafka_reads_ours(our_segment):
    """Its own decoder understands every key and value."""
    done = run_java(
        "org.apache.kafka.tools.DumpLogSegments",
        ["--offsets-decoder", "--deep-iteration", "--print-data-log", "--files", str(our_segment)],
    )
    decoded = [
        (json.loads(key), None if value == "<DELETE>" else json.loads(value))
        for key, value in re.findall(r"key: (\{.*?\}) payload: (<DELETE>|\{.*\})", done.stdout)
        if "warm up" not in key
    ]
    assert len(decoded) == len(records(our_segment))
    kinds = {(key["type"], None if value is None else value["version"]) for key, value in decoded}
    assert kinds == {("1", "4"), ("1", "1"), ("1", None), ("2", "3"), ("2", None)}


def test_we_read_kafkas(kafka_segment):
    """Replay of its log gives the groups and offsets as they are."""
    coordinator = Coordinator()
    for offset, (key, value) in enumerate(records(kafka_segment)):
        coordinator.shard.replay(offset, -1, -1, key, value)
    coordinator.shard.on_loaded(coordinator.now)
    groups = coordinator.shard.groups
    assert set(groups) == {"orders", "billing", "simple"}
    assert (groups["orders"].state.value, groups["orders"].generation_id) == ("Empty", 2)
    assert (groups["billing"].state.value, groups["billing"].generation_id) == ("Stable", 1)
    (member,) = groups["billing"].members.values()
    assert (member.group_instance_id, member.assignment) == ("i-1", b"mine")
    assert (member.client_id, member.client_host) == ("c", "/127.0.0.1")
    assert groups["billing"].subscribed_topics == {"orders"}
    assert fetched(coordinator) == {("orders", 0): 7, ("orders", 1): 7}
    simple = coordinator.shard.offsets.committed.get("simple", "orders", 0)
    assert (simple.metadata, simple.expire_timestamp_ms) == ("ein Vermerk: äöü", None)


def test_a_retention_of_the_clients_own_is_kept(our_segment):
    """In the one version of the value that has room for it."""
    (value,) = [
        decode_value(value, OffsetCommitValue)
        for key, value in records(our_segment)
        if value is not None and value[:2] == b"\x00\x01"
    ]
    expected = time.time() * 1000 + 60_000_000
    assert abs(value.expire_timestamp - expected) < 600_000
