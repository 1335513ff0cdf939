"""Records on several brokers: replicated, acknowledged, taken over."""

from __future__ import annotations

import asyncio
import time

import pytest

from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records
from barnabas.wire.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from barnabas.wire.messages.delete_records import DeleteRecordsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.event_loops import eventually
from tests.topic_requests import create_topics

QUICK = {"replica_lag_time_max_ms": 1000, "replica_fetch_backoff_ms": 100}
NOT_LEADER_OR_FOLLOWER = 6
NOT_ENOUGH_REPLICAS = 19


def produce_request(topic_id, index, *values, acks=-1, timeout_ms=10_000):
    """One batch for one partition."""
    batch = build_batch([(0, int(time.time() * 1000), None, value, ()) for value in values])
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[
            ProduceRequest.TopicProduceData(
                topic_id=topic_id,
                partition_data=[ProduceRequest.PartitionProduceData(index=index, records=memoryview(batch))],
            )
        ],
    )


async def produce(cluster, topic, index, *values, node_id=None, **options):
    """The answer for one batch, from the leader unless another broker is named."""
    topic_id = cluster.image().topics[topic].id
    node_id = cluster.leader(topic, index) if node_id is None else node_id
    answer = await cluster.call(node_id, produce_request(topic_id, index, *values, **options))
    return answer, answer.responses[0].partition_responses[0]


async def fetch(cluster, topic, index, node_id, *, offset=0, rack="", version=None, max_wait_ms=100):
    """The answer of a broker to a consumer."""
    answer = await cluster.call(
        node_id,
        FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=1,
            max_bytes=1 << 20,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            rack_id=rack,
            topics=[
                FetchRequest.FetchTopic(
                    topic_id=cluster.image().topics[topic].id,
                    partitions=[
                        FetchRequest.FetchPartition(
                            partition=index,
                            current_leader_epoch=-1,
                            fetch_offset=offset,
                            last_fetched_epoch=-1,
                            partition_max_bytes=1 << 20,
                        )
                    ],
                )
            ],
        ),
        version,
    )
    return answer, answer.responses[0].partitions[0]


def values_of(records):
    """The values of fetched batches."""
    found = []
    for position, header in iterate_headers(records or b""):
        found += [
            bytes(record.value)
            for record in iterate_records(records[position : position + header.size_bytes])
        ]
    return found


def log_values(cluster, node_id, topic, index):
    """What a broker's replica holds."""
    log = cluster.replica(node_id, topic, index).log
    offset, found = log.log_start_offset, []
    while offset < log.log_end_offset:
        read = log.read(offset, 1 << 20, up_to_offset=log.log_end_offset)
        data = read.region.read()
        read.region.release()
        found += values_of(data)
        offset = max(header.next_offset for _, header in iterate_headers(data))
    return found


@pytest.mark.parametrize("acks", [-1, 1])
async def test_with_fsync_always_it_is_on_all_disks(loop, cluster, acks):
    """Of every in-sync replica, when acks=all is answered or a reader sees it, whatever it was produced with."""
    async with cluster(3, barnabas_durability="fsync-always", **QUICK) as brokers:
        await brokers.create_topic("orders", 2, 3, min_insync_replicas=2)
        leader = brokers.leader("orders", 0)
        for number in range(20):
            _, answer = await produce(brokers, "orders", 0, b"%d" % number, acks=acks)
            assert (answer.error_code, answer.base_offset) == (0, number)
            if acks == 1:
                assert brokers.replica(leader, "orders", 0).log.recovery_point > number
                _, read = await fetch(brokers, "orders", 0, leader, offset=number, max_wait_ms=10_000)
                assert values_of(read.records) == [b"%d" % number]
            for node_id in brokers.partition("orders", 0).isr:
                assert brokers.replica(node_id, "orders", 0).log.recovery_point > number
        assert len(brokers.partition("orders", 0).isr) == 3


async def test_what_is_acknowledged_by_all_is_on_all(loop, cluster):
    """acks=all is answered when every in-sync replica has the records, and consumers may read them then."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", 2, 3, min_insync_replicas=2)
        for number in range(20):
            _, answer = await produce(brokers, "orders", number % 2, b"%d" % number)
            assert (answer.error_code, answer.base_offset) == (0, number // 2)
            for node_id in brokers.node_ids:
                assert brokers.replica(node_id, "orders", number % 2).log_end_offset > answer.base_offset
        expected = [b"%d" % number for number in range(0, 20, 2)]
        _, read = await fetch(brokers, "orders", 0, brokers.leader("orders", 0))
        assert values_of(read.records) == expected
        for node_id in brokers.node_ids:
            assert log_values(brokers, node_id, "orders", 0) == expected
        await eventually(
            lambda: all(
                brokers.replica(node_id, "orders", 0).high_watermark == 10 for node_id in brokers.node_ids
            ),
            what="the high watermark on all",
        )


async def test_another_leads_when_the_leader_dies(loop, cluster):
    """Nothing that was acknowledged is lost, the others go on, and who comes back takes over what it missed."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", 1, 3, min_insync_replicas=2)
        values = []
        for number in range(5):
            _, answer = await produce(brokers, "orders", 0, b"%d" % number)
            assert answer.error_code == 0
            values.append(b"%d" % number)
        first = brokers.leader("orders", 0)
        await brokers.kill(first)
        await brokers.agree(
            lambda image: image.partition("orders", 0).leader not in (first, -1), "a new leader"
        )
        for number in range(5, 10):
            _, answer = await produce(brokers, "orders", 0, b"%d" % number)
            assert answer.error_code == 0
            values.append(b"%d" % number)
        await brokers.start(first)
        await eventually(lambda: log_values(brokers, first, "orders", 0) == values, what="what was missed")
        await brokers.agree(lambda image: len(image.partition("orders", 0).isr) == 3, "all in sync")


APART = {
    "listeners": "PLAINTEXT://127.0.0.1:0,INSIDE://127.0.0.1:0",
    "listener_security_protocol_map": "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT",
    "inter_broker_listener_name": "INSIDE",
}
"""Brokers talk to each other on a listener of their own."""


def coordinator_request(version):
    """Asks for the coordinator of a group."""
    return (
        FindCoordinatorRequest(key="group")
        if version < 4
        else FindCoordinatorRequest(coordinator_keys=["group"])
    )


@pytest.mark.in_memory("a node is cut off from the store, and a broker that lives")
@pytest.mark.parametrize(
    ("heartbeat_ms", "notices", "was_controller"),
    [(100, False, False), (60_000, True, False), (60_000, True, True)],
    ids=["heartbeats come anyhow", "it knows that it is out of touch", "it was the controller"],
)
async def test_a_leader_that_the_store_does_not_reach_hears_from_the_controller(
    loop, cluster, heartbeat_ms, notices, was_controller
):
    """It lets nobody wait for followers that follow another one by now, and takes its place when it is reached again."""
    async with cluster(3, broker_heartbeat_interval_ms=heartbeat_ms, **QUICK, **APART) as brokers:
        first = brokers.log.leader
        others = [node_id for node_id in brokers.node_ids if node_id != first]
        cut_off, other, third = (first, *others) if was_controller else (*others, first)
        await brokers.create_topic("orders", assignments=[[cut_off, other, third]])
        _, produced = await produce(brokers, "orders", 0, b"before")
        assert produced.error_code == 0
        await brokers.call(cut_off, coordinator_request(4), 4)
        brokers.log.cut_off(cut_off, notices=notices)
        await eventually(lambda: brokers.image(other).partition("orders", 0).leader == other)
        _, produced = await produce(brokers, "orders", 0, b"refused", node_id=cut_off, timeout_ms=60_000)
        assert produced.error_code == NOT_LEADER_OR_FOLLOWER
        assert brokers.partition("orders", 0, cut_off).leader == cut_off  # so it was not the store that told
        _, produced = await produce(brokers, "orders", 0, b"after", node_id=other)
        assert (produced.error_code, produced.base_offset) == (0, 1)
        # Clients that are connected to this broker alone are sent to the others, on the listener that is theirs.
        found = await brokers.call(cut_off, MetadataRequest(topics=None))
        assert found.topics[0].partitions[0].leader_id == other
        ports = {node_id: broker.addresses["PLAINTEXT"][1] for node_id, broker in brokers.brokers.items()}
        del ports[cut_off]
        assert {node.node_id: node.port for node in found.brokers} == ports
        for version in (0, 4):
            answer = await brokers.call(cut_off, coordinator_request(version), version)
            for coordinator in [answer] if version == 0 else answer.coordinators:
                assert ports[coordinator.node_id] == coordinator.port
        if was_controller:
            # Whatever is asked of the controller goes to the new one.
            await brokers.call(cut_off, create_topics(["notes"]))
            assert "notes" in brokers.image(other).topics
            assert brokers.image(cut_off).controller_id == -1
        brokers.log.heal(cut_off)
        await brokers.agree(lambda image: len(image.partition("orders", 0).isr) == 3)
        _, fetched = await fetch(brokers, "orders", 0, other)
        assert values_of(fetched.records) == [b"before", b"after"]


@pytest.mark.in_memory("a node is cut off from the store, and others are killed")
async def test_who_is_cut_off_from_everybody_tells_what_it_knows(loop, cluster):
    """With nobody to ask, clients get this broker's own answer, which may be right again once it is reached."""
    async with cluster(3, broker_heartbeat_interval_ms=60_000, **QUICK) as brokers:
        first = brokers.log.leader
        cut_off, *others = (node_id for node_id in brokers.node_ids if node_id != first)
        others.append(first)
        await brokers.create_topic("orders", assignments=[[cut_off, *others]])
        await brokers.call(cut_off, coordinator_request(4), 4)
        brokers.log.cut_off(cut_off, notices=True)
        _, produced = await produce(brokers, "orders", 0, b"refused", node_id=cut_off, timeout_ms=60_000)
        assert produced.error_code == NOT_LEADER_OR_FOLLOWER
        found = await brokers.call(cut_off, MetadataRequest(topics=None))
        assert found.topics[0].partitions[0].leader_id != cut_off
        for node_id in others:
            await brokers.kill(node_id)
        found = await brokers.call(cut_off, MetadataRequest(topics=None))
        assert found.topics[0].partitions[0].leader_id == cut_off
        assert cut_off in {node.node_id for node in found.brokers}
        (coordinator,) = (await brokers.call(cut_off, coordinator_request(4), 4)).coordinators
        assert coordinator.error_code == 0
        brokers.log.heal(cut_off)


async def test_a_follower_refuses_and_names_the_leader(loop, cluster):
    """NOT_LEADER_OR_FOLLOWER comes with the leader and where to find it, so that no metadata has to be asked for."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", 1, 2)
        leader = brokers.leader("orders", 0)
        for other in brokers.node_ids:
            if other == leader:
                continue
            answer, refused = await produce(brokers, "orders", 0, b"v", node_id=other)
            assert refused.error_code == NOT_LEADER_OR_FOLLOWER
            assert refused.current_leader.leader_id == leader
            (node,) = answer.node_endpoints
            assert (node.node_id, (node.host, node.port)) == (
                leader,
                brokers.brokers[leader].addresses["PLAINTEXT"],
            )


async def test_too_few_in_sync(loop, cluster):
    """With less than min.insync.replicas, acks=all is refused; it goes on when enough are back."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", 1, 3, min_insync_replicas=3)
        _, answer = await produce(brokers, "orders", 0, b"a")
        assert answer.error_code == 0
        follower = next(each for each in brokers.node_ids if each != brokers.leader("orders", 0))
        await brokers.kill(follower)
        await brokers.agree(lambda image: len(image.partition("orders", 0).isr) == 2, "one less in sync")
        _, answer = await produce(brokers, "orders", 0, b"b")
        assert answer.error_code == NOT_ENOUGH_REPLICAS
        _, answer = await produce(brokers, "orders", 0, b"c", acks=1)
        assert answer.error_code == 0
        leader = brokers.leader("orders", 0)
        _, read = await fetch(brokers, "orders", 0, leader)
        assert values_of(read.records) == [b"a"], "the high watermark stands still"
        await brokers.start(follower)
        await brokers.agree(lambda image: len(image.partition("orders", 0).isr) == 3, "all in sync")
        _, answer = await produce(brokers, "orders", 0, b"d")
        assert answer.error_code == 0
        _, read = await fetch(brokers, "orders", 0, leader)
        assert values_of(read.records) == [b"a", b"c", b"d"]


async def test_a_replica_that_hangs_leaves_the_in_sync_ones(loop, cluster):
    """A follower that fetches no more is dropped after replica.lag.time.max.ms, and acks=all goes on without it."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", 1, 3, min_insync_replicas=2)
        _, answer = await produce(brokers, "orders", 0, b"a")
        leader = brokers.leader("orders", 0)
        hanging = next(each for each in brokers.node_ids if each != leader)
        await brokers.brokers[hanging]._replication.fetchers.close()
        started = time.monotonic()
        _, answer = await produce(brokers, "orders", 0, b"b")
        assert answer.error_code == 0
        assert time.monotonic() - started > 0.2, "it was waited for"
        await brokers.agree(lambda image: hanging not in image.partition("orders", 0).isr, "it is dropped")


@pytest.mark.parametrize("count", [50])
async def test_pipelined_acknowledgements_keep_their_order(loop, cluster, count):
    """Many acks=all on one connection are replicated together and answered in order."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", 1, 3, min_insync_replicas=2)
        topic_id = brokers.image().topics["orders"].id
        connections = [await brokers.connect(brokers.leader("orders", 0)) for _ in range(4)]
        answers = await asyncio.gather(*(_many(connection, topic_id, count) for connection in connections))
        for offsets in answers:
            assert offsets == sorted(offsets)
        assert sorted(offset for offsets in answers for offset in offsets) == list(range(4 * count))
        for connection in connections:
            await connection.close()


async def _many(connection, topic_id, count):
    offsets = []
    for _ in range(count):
        answer = await connection.call(produce_request(topic_id, 0, b"v"))
        partition = answer.responses[0].partition_responses[0]
        assert partition.error_code == 0
        offsets.append(partition.base_offset)
    return offsets


async def test_consumers_read_in_their_rack(loop, cluster):
    """A leader sends a consumer to the replica in its rack, which serves it up to the high watermark (KIP-392)."""
    selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    factors = {"offsets_topic_replication_factor": 3, "transaction_state_log_replication_factor": 3}
    async with cluster(0, **QUICK, **factors, replica_selector_class=selector) as brokers:
        for node_id in (1, 2, 3):
            await brokers.start(node_id, broker_rack=f"rack-{node_id}")
        await brokers.create_topic("orders", 1, 3, min_insync_replicas=2)
        leader = brokers.leader("orders", 0)
        _, answer = await produce(brokers, "orders", 0, b"a", b"b")
        assert answer.error_code == 0
        for node_id in (1, 2, 3):
            _, told = await fetch(brokers, "orders", 0, leader, rack=f"rack-{node_id}")
            if node_id == leader:
                assert (told.preferred_read_replica, values_of(told.records)) == (-1, [b"a", b"b"])
                continue
            assert (told.preferred_read_replica, bytes(told.records)) == (node_id, b"")
            await eventually(lambda node=node_id: brokers.replica(node, "orders", 0).high_watermark == 2)
            _, read = await fetch(brokers, "orders", 0, node_id, rack=f"rack-{node_id}")
            assert (read.error_code, values_of(read.records)) == (0, [b"a", b"b"])
        _, told = await fetch(brokers, "orders", 0, leader, rack="elsewhere")
        assert told.preferred_read_replica == -1
        _, old = await fetch(brokers, "orders", 0, leader, rack="")
        assert values_of(old.records) == [b"a", b"b"]


async def test_deleted_records_are_gone_everywhere(loop, cluster):
    """DeleteRecords is answered when all replicas that are alive have moved their log start offset."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", 1, 3, min_insync_replicas=2)
        for number in range(4):
            await produce(brokers, "orders", 0, b"%d" % number)
        request = DeleteRecordsRequest(
            timeout_ms=10_000,
            topics=[
                DeleteRecordsRequest.DeleteRecordsTopic(
                    name="orders",
                    partitions=[DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=3)],
                )
            ],
        )
        response = await brokers.call(brokers.leader("orders", 0), request)
        (answer,) = response.topics[0].partitions
        assert (answer.error_code, answer.low_watermark) == (0, 3)
        assert [brokers.replica(node_id, "orders", 0).log_start_offset for node_id in (1, 2, 3)] == [3, 3, 3]


async def test_a_replica_moves_to_another_broker(loop, cluster):
    """A new replica begins at the leader's log start, and the one that it replaces gives its log up."""
    async with cluster(3, **QUICK) as brokers:
        await brokers.create_topic("orders", assignments=[[1, 2]])
        values = [b"%d" % number for number in range(6)]
        for value in values:
            await produce(brokers, "orders", 0, value)
        brokers.replica(1, "orders", 0).delete_records(4)
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=10_000,
            topics=[
                AlterPartitionReassignmentsRequest.ReassignableTopic(
                    name="orders",
                    partitions=[
                        AlterPartitionReassignmentsRequest.ReassignablePartition(
                            partition_index=0, replicas=[3, 1]
                        )
                    ],
                )
            ],
        )
        response = await brokers.call(1, request)
        assert response.responses[0].partitions[0].error_code == 0
        await brokers.agree(
            lambda image: (
                sorted(image.partition("orders", 0).replicas) == [1, 3]
                and sorted(image.partition("orders", 0).isr) == [1, 3]
            ),
            "the reassignment",
        )
        assert log_values(brokers, 3, "orders", 0) == values[4:]
        assert brokers.replica(3, "orders", 0).log_start_offset == 4
        assert brokers.replica(2, "orders", 0) is None


@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)
@pytest.mark.parametrize("side", ["leader", "follower"])
async def test_a_throttled_replica_keeps_to_the_rate(loop, cluster, side):
    """A new replica of a throttled topic comes slowly, and clients are not slowed down."""
    throttle = {
        f"{side}_replication_throttled_rate": 20_000,
        "replication_quota_window_num": 2,
        "replica_fetch_max_bytes": 1000,
    }
    async with cluster(2, **QUICK, **throttle) as brokers:
        await brokers.create_topic(
            "orders", assignments=[[1]], **{f"{side}_replication_throttled_replicas": "*"}
        )
        size = 100_000
        for _ in range(10):
            _, answer = await produce(brokers, "orders", 0, bytes(size // 10))
            assert answer.error_code == 0
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=10_000,
            topics=[
                AlterPartitionReassignmentsRequest.ReassignableTopic(
                    name="orders",
                    partitions=[
                        AlterPartitionReassignmentsRequest.ReassignablePartition(
                            partition_index=0, replicas=[1, 2]
                        )
                    ],
                )
            ],
        )
        started = time.monotonic()
        await brokers.call(1, request)
        await brokers.agree(lambda image: len(image.partition("orders", 0).isr) == 2, "both in sync")
        assert time.monotonic() - started > 1.0
