"""How long a new consumer group waits for its first record, and a large one until everyone has partitions."""

from __future__ import annotations

import asyncio
import statistics
import struct
import time

from confluent_kafka import Consumer

from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from bench import groups, raw
from bench.brokers import FSYNC, PAGE_CACHE
from bench.workload import Run, workload

__all__ = ["first_record_s"]

_GROUPS = 5
_PARTITIONS_EACH = 3


def first_record_s(port: int, topic: str, group: str) -> float:
    """From the making of a consumer until it has a record; the topic has one."""
    started = time.perf_counter()
    consumer = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{port}", "group.id": group, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(30)
        seconds = time.perf_counter() - started
        if message is None or message.error():
            raise RuntimeError(f"group {group}: {message.error() if message else 'no record'}")
        return seconds
    finally:
        consumer.close()


def _requests_s(port: int, topic: str, group: str) -> float:
    """The requests of a single consumer one after another, from the search for the coordinator to the first record."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    # ConsumerProtocolSubscription and -Assignment, version 0: topics; topics with partitions; no user data.
    subscription = struct.pack(">hi", 0, 1) + name + struct.pack(">i", -1)
    assignment = struct.pack(">hi", 0, 1) + name + struct.pack(">iii", 1, 0, -1)
    find = FindCoordinatorRequest(key=group, key_type=0)
    join = JoinGroupRequest(
        group_id=group,
        session_timeout_ms=45_000,
        rebalance_timeout_ms=60_000,
        member_id="",
        protocol_type="consumer",
        protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=subscription)],
    )
    offsets = OffsetFetchRequest(
        group_id=group,
        topics=[OffsetFetchRequest.OffsetFetchRequestTopic(name=topic, partition_indexes=[0])],
    )
    earliest = ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsRequest.ListOffsetsTopic(
                name=topic,
                partitions=[ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=-2)],
            )
        ],
    )
    fetch = raw.fetch_frame(topic, 1, partition_bytes=1 << 20)
    with raw.connect(port) as connection:

        def ask(request: bytes) -> bytes:
            connection.sendall(request)
            return raw.receive(connection)

        started = time.perf_counter()
        ask(raw.frame(10, 2, find, flexible=False))
        # The first answer gives the member its id, and asks it to come back with it (KIP-394).
        for _ in range(2):
            joined = JoinGroupResponse.decode(ask(raw.frame(11, 5, join, flexible=False)), 5, 4)
            join.member_id = joined.member_id
        assert joined.error_code == 0, joined
        sync = SyncGroupRequest(
            group_id=group,
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            assignments=[
                SyncGroupRequest.SyncGroupRequestAssignment(member_id=joined.member_id, assignment=assignment)
            ],
        )
        synced = SyncGroupResponse.decode(ask(raw.frame(14, 3, sync, flexible=False)), 3, 4)
        assert synced.error_code == 0, synced
        ask(raw.frame(9, 5, offsets, flexible=False))
        ask(raw.frame(2, 4, earliest, flexible=False))
        assert len(ask(fetch)) > 100
        return time.perf_counter() - started


@workload("group", "Consumer groups", PAGE_CACHE, FSYNC)
def group(run: Run) -> None:
    """With no wait for more members on either side (`group.initial.rebalance.delay.ms=0`)."""
    port = run.broker.port
    raw.create_topic(port, "group", 1)
    raw.ask(port, raw.produce_frame("group", 0, records=1, size_bytes=100))
    # The first makes the topic of the offsets.
    first_record_s(port, "group", "first")
    seconds = [_requests_s(port, "group", f"raw-{index}") for index in range(run.sizes.groups * 2)]
    # The first half warms up.
    measured = sorted(seconds[run.sizes.groups :])
    name = "a new group's first record, one request after another"
    run.less(f"{name}: p50", "ms", statistics.median(measured) * 1000)
    run.less(f"{name}: p99", "ms", measured[int(len(measured) * 0.99)] * 1000)
    if run.durability == PAGE_CACHE:
        seconds = [first_record_s(port, "group", f"group-{index}") for index in range(_GROUPS)]
        run.less("a new group's first record, librdkafka", "ms", statistics.median(seconds) * 1000)


@workload("large-group", "Consumer groups", PAGE_CACHE)
def large_group(run: Run) -> None:
    """A hundred members that come at once, and one more, in both protocols; without a delay of the first rebalance."""
    members = run.sizes.members
    partitions = members * _PARTITIONS_EACH
    raw.create_topic(run.broker.port, groups.TOPIC, partitions)
    for protocol, kind in (("classic", groups.ClassicMember), ("consumer", groups.NewMember)):
        settle_s, join_s, stopped = asyncio.run(
            groups.measure(
                run.broker.port, f"large-{protocol}", kind, members, partitions, run.sizes.member_pauses_s
            )
        )
        name = f"{protocol} group of {members} members on {partitions} partitions"
        run.less(f"{name}: to settle", "s", settle_s)
        run.less(f"{name}: one more joins", "s", join_s)
        if protocol == "consumer":  # in the classic one, members stop reading everything
            run.less(f"{name}: one more joins, others stopped", "kept partitions", stopped)
