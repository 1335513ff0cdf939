"""Groups and transactions on several brokers, with a real client (confluent-kafka)."""

from __future__ import annotations

import asyncio
import functools
import time

import pytest

from barnabas.coordinators.markers import LocalMarkers
from barnabas.errors import ErrorCode
from barnabas.records.builder import build_batch
from barnabas.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from barnabas.wire.messages.end_txn import EndTxnRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.event_loops import eventually

confluent_kafka = pytest.importorskip("confluent_kafka")

# Real clients, real seconds: on one of the two loops.
pytestmark = pytest.mark.parametrize("loop", ["uvloop"], indirect=True)

SETTINGS = {
    "replica_lag_time_max_ms": 2000,
    "replica_fetch_backoff_ms": 100,
    "offsets_topic_replication_factor": 3,
    "transaction_state_log_replication_factor": 3,
    "transaction_state_log_min_isr": 2,
    "group_initial_rebalance_delay_ms": 0,
}

NOT_YET = (14, 15, 16, 51)
"""COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, CONCURRENT_TRANSACTIONS."""


async def in_thread(function, *arguments, **options):
    """The client blocks; the brokers run on this loop."""
    return await asyncio.get_running_loop().run_in_executor(
        None, functools.partial(function, *arguments, **options)
    )


def consume(consumer, count, deadline_s=40.0):
    """Values of `count` records."""
    values = []
    end = time.monotonic() + deadline_s
    while len(values) < count and time.monotonic() < end:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value())
    return values


def new_consumer(brokers, group, **options):
    return confluent_kafka.Consumer(
        {
            "bootstrap.servers": brokers.bootstrap(),
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 10_000,
            **options,
        }
    )


def coordinator_of(brokers, topic, coordinator, key):
    """The broker that leads a key's partition of an internal topic."""
    any_broker = next(iter(brokers.brokers.values()))
    partition = getattr(any_broker, coordinator).runtime.partition_for(key)
    return brokers.leader(topic, partition)


async def test_a_group_goes_on_when_its_coordinator_dies(loop, cluster):
    """The new leader of the group's partition replays it: committed offsets are there, and members stay."""
    async with cluster(3, **SETTINGS) as brokers:
        await brokers.create_topic("orders", 3, 3, min_insync_replicas=2)
        producer = confluent_kafka.Producer({"bootstrap.servers": brokers.bootstrap(), "acks": "all"})
        for number in range(30):
            producer.produce("orders", b"%d" % number, partition=number % 3)
        assert await in_thread(producer.flush, 30) == 0
        consumer = new_consumer(brokers, "billing")
        consumer.subscribe(["orders"])
        assert sorted(map(int, await in_thread(consume, consumer, 30))) == list(range(30))
        await in_thread(consumer.commit, asynchronous=False)
        dying = coordinator_of(brokers, "__consumer_offsets", "_group_coordinator", "billing")
        await brokers.kill(dying)
        for number in range(30, 60):
            producer.produce("orders", b"%d" % number, partition=number % 3)
        assert await in_thread(producer.flush, 30) == 0
        assert sorted(map(int, await in_thread(consume, consumer, 30))) == list(range(30, 60))
        await in_thread(consumer.commit, asynchronous=False)
        positions = await in_thread(
            consumer.committed, [confluent_kafka.TopicPartition("orders", index) for index in range(3)], 20
        )
        assert [each.offset for each in positions] == [20, 20, 20]
        await in_thread(consumer.close)


async def test_transactions_across_brokers(loop, cluster):
    """Partitions, offsets and coordinator lie on different brokers; a transaction is atomic over all of them."""
    async with cluster(3, **SETTINGS) as brokers:
        await brokers.create_topic("orders", 6, 3, min_insync_replicas=2)
        assert {brokers.leader("orders", index) for index in range(6)} == {1, 2, 3}
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": brokers.bootstrap(), "transactional.id": "till-1"}
        )
        await in_thread(producer.init_transactions, 30)
        for round_number in range(4):
            producer.begin_transaction()
            for index in range(6):
                producer.produce("orders", b"%d-%d" % (round_number, index), partition=index)
            if round_number % 2:
                await in_thread(producer.abort_transaction, 30)
            else:
                await in_thread(producer.commit_transaction, 30)
        consumer = new_consumer(brokers, "readers", **{"isolation.level": "read_committed"})
        consumer.subscribe(["orders"])
        values = await in_thread(consume, consumer, 12)
        assert sorted(values) == sorted(b"%d-%d" % (each, index) for each in (0, 2) for index in range(6))
        await in_thread(consumer.close)


async def test_a_transaction_goes_on_when_its_coordinator_dies(loop, cluster):
    """The next coordinator knows the transaction that is under way, and ends it."""
    async with cluster(3, **SETTINGS) as brokers:
        await brokers.create_topic("orders", 3, 3, min_insync_replicas=2)
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": brokers.bootstrap(), "transactional.id": "till-1"}
        )
        await in_thread(producer.init_transactions, 30)
        producer.begin_transaction()
        for index in range(3):
            producer.produce("orders", b"%d" % index, partition=index)
        assert await in_thread(producer.flush, 30) == 0
        dying = coordinator_of(brokers, "__transaction_state", "_transaction_coordinator", "till-1")
        await brokers.kill(dying)
        await in_thread(producer.commit_transaction, 40)
        consumer = new_consumer(brokers, "readers", **{"isolation.level": "read_committed"})
        consumer.subscribe(["orders"])
        assert sorted(await in_thread(consume, consumer, 3)) == [b"0", b"1", b"2"]
        await in_thread(consumer.close)
        await eventually(
            lambda: all(
                brokers.replica(brokers.leader("orders", index), "orders", index).last_stable_offset == 2
                for index in range(3)
            ),
            what="the end of all markers",
        )


@pytest.fixture
def markers_are_let_go(loop, monkeypatch):
    """An event; before it is set no marker is written."""
    held, is_let_go = LocalMarkers.write, asyncio.Event()

    async def write_later(local, *arguments):
        await is_let_go.wait()
        return await held(local, *arguments)

    monkeypatch.setattr(
        LocalMarkers, "write", lambda local, *arguments: loop.create_task(write_later(local, *arguments))
    )
    return is_let_go


async def coordinator(brokers, transactional_id, request, version):
    """The answer of the coordinator, once it is there."""
    asked = FindCoordinatorRequest(coordinator_keys=[transactional_id], key_type=1)
    while True:
        found = await brokers.call(brokers.node_ids[0], asked, 6)
        if found.coordinators[0].error_code == 0:
            answer = await brokers.call(found.coordinators[0].node_id, request, version)
            if answer.error_code not in NOT_YET:
                assert answer.error_code == 0
                return answer
        await asyncio.sleep(0.02)


async def test_the_next_transaction_begins_before_the_markers_of_the_last_are_there(
    loop, cluster, markers_are_let_go
):
    """Its records wait for them, and are not refused because a marker came meanwhile (transaction version 2)."""
    async with cluster(3, add_partitions_to_txn_retry_backoff_max_ms=30_000, **SETTINGS) as brokers:
        await brokers.create_topic("orders", 1, 3, min_insync_replicas=2)
        leader = brokers.leader("orders", 0)
        topic_id = brokers.image(leader).topics["orders"].id

        def write(producer_id, epoch):
            batch = build_batch(
                [(0, 1, None, b"value", ())],
                producer_id=producer_id,
                producer_epoch=epoch,
                base_sequence=0,
                is_transactional=True,
            )
            data = ProduceRequest.PartitionProduceData(index=0, records=bytes(batch))
            topic = ProduceRequest.TopicProduceData(topic_id=topic_id, partition_data=[data])
            return brokers.call(
                leader,
                ProduceRequest(transactional_id="till-1", acks=-1, timeout_ms=30_000, topic_data=[topic]),
                13,
            )

        request = InitProducerIdRequest(transactional_id="till-1", transaction_timeout_ms=60_000)
        producer = await coordinator(brokers, "till-1", request, 5)
        written = await write(producer.producer_id, producer.producer_epoch)
        assert written.responses[0].partition_responses[0].error_code == 0
        ended = await coordinator(
            brokers,
            "till-1",
            EndTxnRequest(
                transactional_id="till-1",
                producer_id=producer.producer_id,
                producer_epoch=producer.producer_epoch,
                committed=True,
            ),
            5,
        )
        writing = loop.create_task(
            write(ended.producer_id, ended.producer_epoch), name="the next transaction"
        )
        state = brokers.replica(leader, "orders", 0).log.producer_state
        await eventually(lambda: state._verifications, what="the question to the coordinator")
        markers_are_let_go.set()
        written = await writing
        assert written.responses[0].partition_responses[0].error_code == 0


async def test_who_waited_for_a_transaction_in_vain_is_forgotten(loop, cluster, markers_are_let_go):
    """A transaction may be busy for as long as one of its partitions can not be reached, and be asked for all that time."""
    async with cluster(1) as brokers:
        await brokers.create_topic("orders", 1, 1)
        node_id = brokers.leader("orders", 0)
        begin = InitProducerIdRequest(transactional_id="till-1", transaction_timeout_ms=60_000)
        producer = await coordinator(brokers, "till-1", begin, 4)
        known = {
            "producer_id": producer.producer_id,
            "producer_epoch": producer.producer_epoch,
        }
        topics = [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name="orders", partitions=[0])]
        added = await brokers.call(
            node_id,
            AddPartitionsToTxnRequest(
                v3_and_below_transactional_id="till-1",
                **{f"v3_and_below_{name}": value for name, value in known.items()},
                v3_and_below_topics=topics,
            ),
            3,
        )
        assert added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code == 0
        await coordinator(
            brokers, "till-1", EndTxnRequest(transactional_id="till-1", committed=True, **known), 3
        )
        shard = brokers.brokers[node_id]._transaction_coordinator.runtime.shard_for("till-1").shard
        waiters = shard.transactions["till-1"].waiters
        asked = loop.create_task(brokers.call(node_id, begin, 4), name="a client that comes too early")
        await eventually(lambda: waiters, what="a request that waits")
        answer = await asked
        assert answer.error_code == ErrorCode.CONCURRENT_TRANSACTIONS
        assert not waiters
        markers_are_let_go.set()
        await coordinator(brokers, "till-1", begin, 4)
