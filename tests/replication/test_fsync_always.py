"""With `barnabas.durability=fsync-always` nothing counts as held, by a follower or its leader, before it is on the disk."""

from __future__ import annotations

import pytest

from barnabas.config.topic import LogConfig
from barnabas.errors import DiskFullError
from barnabas.log.partition_log import PartitionLog
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.replication.fetch_plan import FetchPlanSettings
from barnabas.replication.leader_duties import LeaderDuties
from barnabas.replication.partition import ACKS_ALL, Partition
from tests.log.harness import batch
from tests.replication.slow_disk import FOLLOWER, LEADER, TOPIC_ID, Follower, stored

SYNC_S = 0.5


@pytest.fixture
def replica(tmp_path):
    replica = Follower(tmp_path, durability="fsync-always")
    yield replica
    replica.close()


def test_a_follower_says_what_is_on_its_disk(replica):
    """It goes on from there when it is; nothing is fetched twice, and its session stays what it is."""
    woken = []
    replica.plan.wake = lambda: woken.append(replica.loop.time())
    assert replica.fetch_offset() == 3
    replica.answer(records=stored(3, b"new", 1))
    assert replica.log.log_end_offset == 4
    assert replica.request() is None  # with nothing else to follow there is nothing to ask
    replica.wait(SYNC_S - 0.1)
    assert replica.request() is None
    assert not woken
    replica.wait(0.2)
    assert len(woken) == 1
    request = replica.request()
    assert (request.session_id, request.forgotten_topics_data) == (7, [])
    assert [part.fetch_offset for part in request.topics[0].partitions] == [4]


def test_meanwhile_other_partitions_are_fetched(replica):
    """The leader is told to send nothing of the one that waits for the disk: it would send the same again."""
    replica.files.make_directory(replica.disk.root / "orders-1")
    log = PartitionLog.open(
        replica.disk.root / "orders-1",
        LogConfig(),
        replica.files,
        replica.clock,
        topic="orders",
        partition=1,
        clean=True,
    )
    other = Partition(
        "orders",
        1,
        TOPIC_ID,
        node_id=FOLLOWER,
        open_log=lambda *_: log,
        group_commit=replica.group_commit,
        durability="fsync-always",
    )
    other.apply(PartitionImage(1, LEADER, 1, (LEADER, FOLLOWER), (LEADER, FOLLOWER), 1))
    replica.plan.add(other)
    asked = replica.request().topics[0].partitions
    assert [(part.partition, part.fetch_offset) for part in asked] == [(0, 3), (1, 0)]
    replica.answer(records=stored(3, b"new", 1))
    request = replica.request()
    assert not request.topics
    assert [topic.partitions for topic in request.forgotten_topics_data] == [[0]]
    replica.wait(SYNC_S + 0.1)
    request = replica.request()
    assert [(part.partition, part.fetch_offset) for part in request.topics[0].partitions] == [(0, 4)]
    log.retire()


def test_what_an_earlier_process_has_not_synced(tmp_path):
    """It is synced before the first word to the leader: the page cache outlives the process only."""
    replica = Follower(tmp_path, durability="fsync-always")
    try:
        replica.log.append_as_follower(stored(3, b"old"))
        assert replica.fetch_offset() is None
        replica.wait(SYNC_S + 0.1)
        assert replica.fetch_offset() == 4
    finally:
        replica.close()


def test_a_disk_that_has_no_room_for_it(replica):
    """It is tried again after a while, and nothing is said until then."""
    assert replica.fetch_offset() == 3
    replica.answer(records=stored(3, b"new", 1))
    replica.files.error = DiskFullError("no room for the leader epochs")
    assert replica.request() is None
    replica.wait(SYNC_S + 0.1)
    assert replica.request() is None
    replica.files.error = None
    replica.clock.now += FetchPlanSettings().backoff_ms
    assert replica.request() is None
    replica.wait(SYNC_S + 0.1)
    assert replica.fetch_offset() == 4


def test_a_disk_that_fails(replica):
    """The partition is not followed any more."""
    assert replica.fetch_offset() == 3
    replica.answer(records=stored(3, b"new", 1))
    replica.files.error = OSError(5, "Input/output error")
    assert replica.request() is None
    replica.wait(SYNC_S + 0.1)
    assert replica.request() is None
    assert replica.log.is_offline
    assert len(replica.plan) == 0


@pytest.mark.parametrize("durability", ["page-cache", "fsync-when-alone"])
def test_other_durabilities_do_not_wait(tmp_path, durability):
    """A follower says at once what it has appended, and asks for no sync."""
    replica = Follower(tmp_path, durability=durability)
    try:
        assert replica.fetch_offset() == 3
        replica.answer(records=stored(3, b"new", 1))
        assert replica.fetch_offset() == 4
        assert replica.group_commit.request_count == 0
    finally:
        replica.close()


class Leader:
    """The same replica as the leader; its follower may hold what it likes."""

    def __init__(self, directory, isr=(FOLLOWER, LEADER)):
        self.replica = Follower(directory, durability="fsync-always")
        self.partition = Partition(
            "orders",
            0,
            TOPIC_ID,
            node_id=FOLLOWER,
            open_log=lambda *_: self.replica.log,
            group_commit=self.replica.group_commit,
            durability="fsync-always",
            duties=LeaderDuties(
                node_id=FOLLOWER,
                clock=self.replica.clock,
                loop=self.replica.loop,
                lag_time_max_ms=1000,
                epoch_of={FOLLOWER: 1, LEADER: 1}.get,
                propose=lambda *_: None,
            ),
        )
        self.partition.apply(PartitionImage(0, FOLLOWER, 2, (FOLLOWER, LEADER), isr, 1))
        assert self.partition.log_end_offset == 3
        self.told = []

    def append(self, acks=ACKS_ALL):
        records = memoryview(bytearray(batch(b"v")))
        last = self.partition.append(records, acks, now_ms=self.replica.clock.now_ms()).last_offset
        if acks == ACKS_ALL:
            assert self.partition.call_when_committed(
                last, acks, lambda error: self.told.append((last, error)), lambda: False
            )

    def fetch(self, offset):
        leading = self.partition.leading
        leading.on_fetch(
            leading.follower(LEADER),
            self.partition.log,
            fetch_offset=offset,
            log_start_offset=0,
            broker_epoch=1,
            now_ms=self.replica.clock.monotonic_ms(),
        )


@pytest.fixture
def leader(tmp_path):
    made = []

    def make(**options):
        made.append(Leader(tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.replica.close()


@pytest.mark.parametrize("acks", [ACKS_ALL, 1, 0])
def test_a_leader_counts_for_what_is_on_its_disk(leader, acks):
    """Readers see a record when it is on all disks, and who waits for acks=all hears of it then."""
    one = leader()
    one.fetch(3)
    assert one.partition.high_watermark == 3
    one.append(acks)
    one.fetch(4)
    one.replica.wait(SYNC_S - 0.1)
    assert one.partition.high_watermark == 3
    one.append(acks)
    one.replica.wait(0.2)
    assert one.partition.high_watermark == 4  # the other one came when the first was on its way
    one.fetch(5)
    one.replica.wait(SYNC_S)
    assert one.partition.high_watermark == 5
    assert one.told == ([(3, None), (4, None)] if acks == ACKS_ALL else [])


def test_a_leader_alone_in_sync(leader):
    """Its own disk counts, and nobody else's."""
    one = leader(isr=(FOLLOWER,))
    one.append()
    assert one.partition.high_watermark == 3
    one.replica.wait(SYNC_S + 0.1)
    assert one.partition.high_watermark == 4
    assert one.told == [(3, None)]


def test_a_leader_is_elected_with_what_it_has_not_synced(tmp_path):
    """It brings it to the disk, though nobody appends."""
    one = Leader(tmp_path)
    try:
        one.partition.apply(PartitionImage(0, LEADER, 3, (FOLLOWER, LEADER), (FOLLOWER, LEADER), 2))
        one.replica.log.append_as_follower(stored(3, b"new", 3))
        one.partition.apply(PartitionImage(0, FOLLOWER, 4, (FOLLOWER, LEADER), (FOLLOWER, LEADER), 3))
        one.fetch(4)
        assert one.partition.high_watermark == 3
        one.replica.wait(SYNC_S + 0.1)
        assert one.partition.high_watermark == 4
    finally:
        one.replica.close()


def test_a_leader_whose_disk_has_no_room_for_a_moment(leader):
    """It tries again by itself."""
    one = leader()
    one.fetch(3)
    one.replica.files.error = DiskFullError("no room for the leader epochs")
    one.append(1)
    one.fetch(4)
    one.replica.wait(SYNC_S + 0.05)
    one.replica.files.error = None
    assert one.partition.high_watermark == 3
    one.replica.wait(1.0)
    assert one.partition.high_watermark == 4
