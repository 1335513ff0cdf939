"""Markers on their way to several brokers, some of which can not be reached, refuse for now, or for good."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from barnabas.coordinators import marker_sender
from barnabas.coordinators.marker_sender import MarkerSender
from barnabas.coordinators.transaction.transaction import EndMarkers
from barnabas.errors import ErrorCode, KafkaError


class Broker:
    """A broker that answers what a test has put into `codes`, once for each partition, and then NONE."""

    def __init__(self, loop):
        self.loop = loop
        self.codes = {}
        self.written = []

    def write(self, markers):
        done = self.loop.create_future()
        outcomes = []
        for marker in markers:
            self.written.append(marker)
            outcomes.append(
                {partition: self.codes.pop(partition, ErrorCode.NONE) for partition in marker.partitions}
            )
        self.loop.call_soon(done.set_result, outcomes)
        return done


class Image:
    """What the sender asks of the metadata."""

    def __init__(self, world):
        self.world = world

    def partition(self, topic, index):
        return self.world.partition_of(topic, index)


class World:
    """Two brokers that lead a partition each of topic t; the coordinator completes what has all markers."""

    def __init__(self, loop):
        self.brokers = {1: Broker(loop), 2: Broker(loop)}
        self.reachable = {1, 2}
        self.leaders = {("t", 0): 1, ("t", 1): 2}
        self.completed = []
        self.failures = []
        self.is_coordinator = True
        self.partition = SimpleNamespace(leader_epoch=5)
        self.sender = MarkerSender(
            shard_for=lambda _: self._shard(),
            writer_for=lambda node: self.brokers.get(node) if node in self.reachable else None,
            image=lambda: Image(self),
            loop=loop,
        )

    def _shard(self):
        if not self.is_coordinator:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        return self

    def complete(self, markers, _now):
        return markers

    def write(self, operation):
        markers = operation(self, None)
        if self.failures:
            raise self.failures.pop()
        self.completed.append(markers)

    def partition_of(self, topic, index):
        leader = self.leaders.get((topic, index))
        return None if leader is None else SimpleNamespace(leader=leader)

    def post(self, *partitions):
        markers = EndMarkers("x", 7, 3, True, frozenset(partitions), 2)
        self.sender.post(markers)
        return markers


@pytest.fixture
def world(loop, monkeypatch):
    monkeypatch.setattr(marker_sender, "RETRY_S", 0.001)
    world = World(loop)
    yield world
    world.sender.close()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_each_leader_gets_its_partitions(loop, world):
    """And the transaction is completed when both have answered."""
    markers = world.post(("t", 0), ("t", 1))
    await until(lambda: world.completed == [markers])
    for node, index in ((1, 0), (2, 1)):
        (written,) = world.brokers[node].written
        assert list(written.partitions) == [("t", index)]
        assert (written.producer_id, written.producer_epoch, written.coordinator_epoch) == (7, 3, 5)
        assert (written.committed, written.version) == (True, 2)
    assert world.sender.under_way == 0


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.REQUEST_TIMED_OUT,
    ],
)
async def test_what_fails_for_now_is_sent_again(loop, world, code):
    """To whoever leads the partition then, and only there."""
    world.brokers[2].codes[("t", 1)] = code
    markers = world.post(("t", 0), ("t", 1))
    await until(lambda: world.completed == [markers])
    assert len(world.brokers[1].written) == 1
    assert len(world.brokers[2].written) == 2


async def test_what_is_on_its_way_is_not_sent_again(loop, world, monkeypatch):
    """Another partition's retry would bring a slow broker a second marker: perhaps when the producer has begun its next transaction."""
    slow, answer = world.brokers[2], loop.create_future()
    monkeypatch.setattr(slow, "write", lambda markers: slow.written.extend(markers) or answer)
    world.brokers[1].codes[("t", 0)] = ErrorCode.NOT_LEADER_OR_FOLLOWER
    markers = world.post(("t", 0), ("t", 1))
    await until(lambda: len(world.brokers[1].written) == 2)
    assert len(slow.written) == 1
    assert world.completed == []
    answer.set_result([{("t", 1): ErrorCode.NONE}])
    await until(lambda: world.completed == [markers])


async def test_what_nobody_answered_is_sent_again(loop, world, monkeypatch):
    """A connection that was lost says nothing of what went over it."""
    lost = loop.create_future()
    lost.set_exception(KafkaError(ErrorCode.NETWORK_EXCEPTION))
    with monkeypatch.context() as patch:
        patch.setattr(world.brokers[2], "write", lambda _: lost)
        markers = world.post(("t", 0), ("t", 1))
        await until(lambda: world.sender.retry_count)
    await until(lambda: world.completed == [markers])
    assert len(world.brokers[1].written) == 1


async def test_a_broker_that_can_not_be_reached_is_waited_for(loop, world):
    """The others get their markers meanwhile; the transaction is completed once."""
    world.reachable.remove(2)
    markers = world.post(("t", 0), ("t", 1))
    await until(lambda: world.brokers[1].written and world.sender.retry_count)
    assert world.completed == []
    world.reachable.add(2)
    await until(lambda: world.completed == [markers])
    await until(lambda: world.sender.under_way == 0)
    assert len(world.completed) == 1


async def test_partitions_that_are_gone_need_no_marker(loop, world):
    """All of them, or some."""
    some = world.post(("t", 0), ("gone", 0))
    everything = world.post(("gone", 1))
    nothing = world.post()
    await until(lambda: len(world.completed) == 3)
    assert set(world.completed) == {some, everything, nothing}


@pytest.mark.parametrize("code", [ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.TRANSACTION_COORDINATOR_FENCED])
async def test_what_was_overtaken_is_let_go(loop, world, code):
    """Another coordinator goes on with it."""
    world.brokers[2].codes[("t", 1)] = code
    world.post(("t", 0), ("t", 1))
    await until(lambda: world.sender.under_way == 0)
    assert world.completed == []


async def test_an_end_that_is_not_written_is_tried_again(loop, world):
    """Without sending the markers again."""
    world.failures = [KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)] * 3
    markers = world.post(("t", 0))
    await until(lambda: world.completed == [markers])
    assert len(world.brokers[1].written) == 1


async def test_whoever_is_no_longer_coordinator_stops(loop, world):
    """Before it sends, and before it completes."""
    world.is_coordinator = False
    world.post(("t", 0))
    await until(lambda: world.sender.under_way == 0)
    assert world.brokers[1].written == []
    world.is_coordinator = True
    world.post(("t", 0))
    await until(lambda: world.brokers[1].written)
    world.is_coordinator = False
    await until(lambda: world.sender.under_way == 0)


async def test_the_next_life_of_a_shard_sends_its_own(loop, world):
    """What the last one posted would come twice, and perhaps when the producer has begun its next transaction."""
    shards = [SimpleNamespace(partition=world.partition)]
    world.sender._shard_for = lambda _: shards[-1]
    world.reachable.remove(1)
    world.post(("t", 0))
    await until(lambda: world.sender.retry_count)
    shards.append(world)
    markers = world.post(("t", 0))
    world.reachable.add(1)
    await until(lambda: world.sender.under_way == 0)
    assert world.completed == [markers]
    assert len(world.brokers[1].written) == 1
