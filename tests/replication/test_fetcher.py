"""When a follower asks its leader, and of what, on simulated time; the leader's answers are made up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from barnabas.config.topic import LogConfig
from barnabas.errors import ErrorCode, StorageError
from barnabas.log.files import Files
from barnabas.log.partition_log import PartitionLog
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.metrics import Registry
from barnabas.replication.fetch_plan import FetchPlan, FetchPlanSettings
from barnabas.replication.fetcher import Fetcher
from barnabas.replication.partition import Partition
from barnabas.replication.replica_fetchers import ReplicaFetchers
from barnabas.wire.messages.fetch import FetchResponse
from tests.replication.simulated_loop import SimulatedClock, SimulatedLoop
from tests.replication.three_brokers import SETTINGS

TOPIC_ID = bytes(range(16))
LEADER, FOLLOWER = 1, 2
WAIT_MAX_MS = 500


class Leader:
    """A link to a leader that has nothing new: it answers when the time is up or when the next request comes.

    The first that is said of a partition in `refused` is answered with NOT_LEADER_OR_FOLLOWER at once.
    """

    def __init__(self, loop):
        self.loop = loop
        self.refused = set()
        self.asked = []
        self.closed = 0
        self._parked = None

    def send(self, request, *, timeout_ms):
        del timeout_ms
        if self._parked is not None:
            self._answer(*self._parked)
        future = self.loop.create_future()
        named = {part.partition for topic in request.topics for part in topic.partitions}
        self.asked.append((self.loop.time(), named))
        refused = self.refused & named
        if refused or not request.session_id:
            self.refused -= refused
            self._answer(future, named, refused)
        else:
            self._parked = (future, set(), set())
            self.loop.call_later(request.max_wait_ms / 1000, self._answer, *self._parked)
        return future

    def _answer(self, future, named, refused):
        if future.done():
            return
        future.set_result(
            FetchResponse(
                session_id=7,
                responses=[
                    FetchResponse.FetchableTopicResponse(
                        topic_id=TOPIC_ID,
                        partitions=[
                            FetchResponse.PartitionData(
                                partition_index=index,
                                error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER if index in refused else 0,
                                high_watermark=0,
                                records=b"",
                            )
                            for index in sorted(named)
                        ],
                    )
                ],
            )
        )

    def close(self):
        self.closed += 1


@pytest.fixture
def simulated():
    loop = SimulatedLoop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def follow(loop, directory, index, directories=()):
    """A partition that this broker follows, with an empty log."""
    place = directory / f"orders-{index}"
    place.mkdir()
    clock = SimulatedClock(loop)
    log = PartitionLog.open(place, LogConfig(), Files(), clock, topic="orders", partition=index, clean=True)
    partition = Partition(
        "orders",
        index,
        TOPIC_ID,
        node_id=FOLLOWER,
        open_log=lambda *_: log,
        group_commit=SimpleNamespace(),
        durability="fsync-when-alone",
        duties=None,
    )
    lead(partition, LEADER, 0, directories)
    return partition


def lead(partition, leader, epoch, directories=()):
    """The controller has chosen a leader."""
    partition.apply(
        PartitionImage(
            index=partition.index,
            replicas=(LEADER, FOLLOWER),
            isr=(LEADER, FOLLOWER),
            leader=leader,
            leader_epoch=epoch,
            partition_epoch=epoch,
            directories=directories,
        )
    )


def test_a_partition_that_was_refused_is_asked_again_while_a_fetch_waits(simulated, tmp_path):
    """The leader may hear of its election a moment later than we do: the others have nothing to tell for half a second."""
    leader = Leader(simulated)

    async def connect(_):
        return leader

    fetcher = Fetcher(
        LEADER,
        FetchPlan(FOLLOWER, broker_epoch=lambda: 3, settings=FetchPlanSettings(wait_max_ms=WAIT_MAX_MS)),
        connect=connect,
        node_id=FOLLOWER,
        timeout_ms=30_000,
        backoff_ms=1000,
        clock=SimulatedClock(simulated),
        loop=simulated,
    )

    async def run():
        fetcher.add(follow(simulated, tmp_path, 0))
        await asyncio.sleep(1.01)
        leader.refused = {1}
        fetcher.add(follow(simulated, tmp_path, 1))
        added_at = simulated.time()
        await asyncio.sleep(2)
        await fetcher.close()
        return [at - added_at for at, named in leader.asked if 1 in named]

    refused, again, *_ = simulated.run_until_complete(run())
    assert refused == 0
    assert again < 0.05


def test_what_could_not_be_written_is_not_fetched(simulated, tmp_path):
    """A fetch would say that this replica follows, and it would be taken in sync; once there is room it is fetched."""
    here = b"2" * 16
    full = {here}
    plan = FetchPlan(
        FOLLOWER, broker_epoch=lambda: 3, settings=FetchPlanSettings(), full_directories=lambda: full
    )
    plan.add(follow(simulated, tmp_path, 0, (b"1" * 16, here)))
    assert plan.request(0.0) is None
    due_ms = plan.next_attention_ms()
    assert due_ms == FetchPlanSettings().backoff_ms
    assert plan.request(due_ms) is None
    full.clear()
    request = plan.request(plan.next_attention_ms())
    assert [part.partition for topic in request.topics for part in topic.partitions] == [0]


@pytest.fixture
def fetchers(simulated):
    """Those of a broker, with `leader` and `failed_count()`."""
    leader = Leader(simulated)

    async def connect(_):
        return leader

    clock = SimulatedClock(simulated)
    fetchers = ReplicaFetchers(
        node_id=FOLLOWER,
        config=SETTINGS,
        broker_epoch=lambda: 3,
        connect=connect,
        clock=clock,
        loop=simulated,
    )
    registry = Registry(clock)
    fetchers.register_metrics(registry)
    failed = registry.gauge("kafka_server_replicafetchermanager_failedpartitionscount")
    yield SimpleNamespace(on_leadership=fetchers.on_leadership, leader=leader, failed_count=failed.read)
    simulated.run_until_complete(fetchers.close())


def test_a_partition_whose_disk_failed_outlasts_the_others_of_its_fetcher(simulated, tmp_path, fetchers):
    """When they are gone, and their fetcher with them, the failed one can still go, or get another leader."""
    failed = [follow(simulated, tmp_path, index) for index in (0, 1)]
    healthy = follow(simulated, tmp_path, 2)
    for partition in (*failed, healthy):
        fetchers.on_leadership(partition)
    for partition in failed:
        partition.log.fail(StorageError("the disk failed"))
    simulated.run_until_complete(asyncio.sleep(1))
    assert fetchers.failed_count() == 2
    assert {index for _, named in fetchers.leader.asked for index in named} == {2}
    lead(healthy, -1, 1)
    fetchers.on_leadership(healthy)
    simulated.run_until_complete(asyncio.sleep(1))
    assert fetchers.leader.closed == 1
    assert fetchers.failed_count() == 2
    lead(failed[0], -1, 1)
    fetchers.on_leadership(failed[0])
    assert fetchers.failed_count() == 1
    lead(failed[1], 3, 1)
    fetchers.on_leadership(failed[1])
    simulated.run_until_complete(asyncio.sleep(1))
    assert fetchers.failed_count() == 1  # it was tried again
    failed[1].retire()
    fetchers.on_leadership(failed[1])
    assert fetchers.failed_count() == 0


def test_nobody_fetches_when_all_disks_have_failed(simulated, tmp_path, fetchers):
    """No connection to a leader stays that is asked for nothing."""
    partition = follow(simulated, tmp_path, 0)
    partition.log.fail(StorageError("the disk failed"))
    fetchers.on_leadership(partition)
    simulated.run_until_complete(asyncio.sleep(1))
    assert fetchers.failed_count() == 1
    assert fetchers.leader.closed == 1
