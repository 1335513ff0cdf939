"""What a follower has dropped does not come back when the power fails, among what it took in its place."""

from __future__ import annotations

import asyncio
import random

import pytest

from barnabas.config.topic import LogConfig
from barnabas.errors import DiskFullError, StorageError
from barnabas.log.group_commit import GroupCommit
from barnabas.log.partition_log import PartitionLog
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.records.batch import iterate_headers, set_base_offset_and_epoch
from barnabas.replication.fetch_plan import FetchPlan, FetchPlanSettings
from barnabas.replication.partition import ACKS_ALL, Partition
from barnabas.wire.messages.fetch import FetchResponse
from tests.durability.failing_power import Disk, FailingPowerFiles
from tests.log.harness import StoppedClock, batch
from tests.replication.simulated_loop import SimulatedLoop

TOPIC_ID = bytes(range(16))
LEADER, FOLLOWER = 1, 2
POWER_FAILURES = 60


class SlowGroupCommit(GroupCommit):
    """Syncs half a second after it was asked to."""

    def __init__(self, loop):
        super().__init__(loop, threads=1)
        self._simulated = loop
        self._waiting_jobs = []
        self._jobs = self

    def _start_threads(self):
        pass

    def put(self, job):
        self._waiting_jobs.append(job)
        self._simulated.call_later(0.5, self._work)

    def get(self):
        return self._waiting_jobs.pop() if self._waiting_jobs else None


class BrokenFiles(FailingPowerFiles):
    """A disk that may fail, or be full, when a directory is synced."""

    error: OSError | None = None

    def sync_directory(self, path):
        if self.error is not None:
            raise self.error
        super().sync_directory(path)


class Follower:
    """A replica with three batches of epoch 0 on its disk, and the leader that it follows in epoch 1."""

    def __init__(self, directory, *, segment_bytes=1 << 20):
        self.directory = directory
        (directory / "disk").mkdir()
        self.disk = Disk(directory / "disk")
        self.files = BrokenFiles(self.disk)
        self.files.make_directory(self.path)
        self.files.sync_directory(self.path.parent)
        self.clock = StoppedClock()
        self.config = LogConfig(segment_bytes=segment_bytes)
        self.loop = SimulatedLoop()
        self.group_commit = SlowGroupCommit(self.loop)
        self.log = self.open(self.path, self.files)
        for number in range(3):
            self.log.append_as_follower(stored(number, b"old"))
        self.log.flush()
        self.partition = Partition(
            "orders",
            0,
            TOPIC_ID,
            node_id=FOLLOWER,
            open_log=lambda *_: self.log,
            group_commit=self.group_commit,
            durability="fsync-when-alone",
        )
        self.apply(LEADER, 1)
        self.plan = FetchPlan(FOLLOWER, broker_epoch=lambda: 3, settings=FetchPlanSettings())
        self.plan.add(self.partition)

    @property
    def path(self):
        return self.disk.root / "orders-0"

    def open(self, path, files, *, clean=True, recovery_point=0):
        return PartitionLog.open(
            path,
            self.config,
            files,
            self.clock,
            topic="orders",
            partition=0,
            clean=clean,
            recovery_point=recovery_point,
        )

    def apply(self, leader, epoch):
        self.partition.apply(PartitionImage(0, leader, epoch, (LEADER, FOLLOWER), (LEADER, FOLLOWER), epoch))

    def wait(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def fetch_offset(self):
        """From where the next request fetches; None if it leaves the partition out."""
        request = self.plan.request(self.clock.monotonic_ms())
        offsets = [] if request is None else [part.fetch_offset for part in request.topics[0].partitions]
        return offsets[0] if offsets else None

    def answer(self, **partition):
        data = FetchResponse.PartitionData(partition_index=0, error_code=0, high_watermark=1, **partition)
        response = FetchResponse(
            session_id=7,
            responses=[FetchResponse.FetchableTopicResponse(topic_id=TOPIC_ID, partitions=[data])],
        )
        self.plan.handle(response, self.plan.sent, self.clock.monotonic_ms())

    def cut(self):
        """The leader says that the logs part after the first record."""
        assert self.fetch_offset() == 3
        self.answer(records=b"", diverging_epoch=FetchResponse.EpochEndOffset(epoch=0, end_offset=1))
        assert self.log.log_end_offset == 1

    def check_power_failures(self):
        """Whatever part of what was not synced is lost: nothing is there that had been dropped."""
        for seed in range(POWER_FAILURES):
            target = self.directory / f"image-{seed}"
            self.disk.image(target, random.Random(seed))
            files = FailingPowerFiles(Disk(target))
            log = self.open(target / "orders-0", files, clean=False, recovery_point=self.log.recovery_point)
            found = [(0, 0)]
            if log.log_end_offset > 1:
                region = log.read(0, 1 << 20, up_to_offset=log.log_end_offset).region
                data = region.read()
                region.release()
                found = [
                    (header.base_offset, header.partition_leader_epoch) for _, header in iterate_headers(data)
                ]
            assert found == [(0, 0), (1, 1), (2, 1), (3, 1)][: len(found)], seed
            log.retire()
            files.close()

    def close(self):
        self.group_commit.close()
        self.log.retire()
        self.files.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


def stored(offset, value, epoch=0):
    """A batch as a leader sends it."""
    records = bytearray(batch(value * 10))
    set_base_offset_and_epoch(records, 0, offset, epoch)
    return memoryview(records)


@pytest.fixture
def follower(tmp_path):
    follower = Follower(tmp_path)
    yield follower
    follower.close()


def test_a_follower_goes_on_when_its_truncation_is_on_the_disk(follower):
    """Not before: the disk could have the sectors of an old batch in the middle of new ones, its checksum as good as theirs."""
    woken = []
    follower.plan.wake = lambda: woken.append(follower.loop.time())
    cut_at = follower.loop.time()
    follower.cut()
    assert follower.fetch_offset() is None
    follower.wait(0.4)
    assert follower.fetch_offset() is None
    assert not woken
    follower.wait(0.2)
    assert woken == [pytest.approx(cut_at + 0.5)]
    assert follower.fetch_offset() == 1
    for number in (1, 2, 3):
        follower.answer(records=stored(number, b"new", 1))
        assert follower.fetch_offset() == number + 1
    follower.check_power_failures()


def test_whole_segments_that_were_dropped(tmp_path):
    """Their names are gone from the disk, too."""
    follower = Follower(tmp_path, segment_bytes=60)
    try:
        assert len(follower.log.segments) == 3
        follower.cut()
        assert follower.fetch_offset() is None
        follower.wait(0.6)
        assert follower.fetch_offset() == 1
        image = tmp_path / "image"
        follower.disk.image(image, random.Random(1))
        sizes = {path.name: path.stat().st_size for path in (image / "orders-0").glob("*.log")}
        assert sizes.pop("00000000000000000000.log") > 0
        assert sizes == {"00000000000000000001.log": 0}
    finally:
        follower.close()


def test_a_log_that_starts_over(follower):
    """The leader's log begins behind the end of ours: it is fetched when the old records are gone for good."""
    followed = follower.plan._followed[TOPIC_ID, 0]
    assert follower.fetch_offset() == 3
    followed.is_lost = True
    follower.plan.found(followed, 10, 20)
    assert follower.fetch_offset() is None
    follower.wait(0.6)
    assert follower.fetch_offset() == 10


def test_who_is_elected_has_its_truncation_on_the_disk(follower):
    """A leader appends at once, so that the election waits for the disk."""
    follower.cut()
    assert follower.fetch_offset() is None
    assert follower.log.has_unsynced_cut
    follower.apply(FOLLOWER, 1)
    assert not follower.log.has_unsynced_cut
    for _ in range(3):
        follower.partition.append(
            memoryview(bytearray(batch(b"new" * 10))), ACKS_ALL, now_ms=follower.clock.now_ms()
        )
    assert follower.log.log_end_offset == 4
    follower.check_power_failures()


def test_another_truncation_meanwhile(follower):
    """The sync under way covers only the first one."""
    follower.cut()
    assert follower.fetch_offset() is None
    follower.wait(0.3)
    follower.log.truncate_to(0)
    follower.wait(0.3)
    assert follower.fetch_offset() is None
    follower.wait(0.6)
    assert follower.fetch_offset() == 0


def test_a_truncation_that_cannot_be_synced(follower):
    """The disk failed: the log is offline, and its partition is not followed any more."""
    follower.cut()
    follower.files.error = OSError(5, "Input/output error")
    assert follower.fetch_offset() is None
    follower.wait(0.6)
    assert follower.log.is_offline
    assert follower.fetch_offset() is None
    assert len(follower.plan) == 0


def test_a_truncation_for_which_the_disk_has_no_room(follower):
    """It is tried again after a while."""
    follower.cut()
    follower.files.error = DiskFullError("no room for the leader epochs")
    assert follower.fetch_offset() is None
    follower.wait(0.6)
    assert follower.fetch_offset() is None
    follower.files.error = None
    assert follower.plan.next_attention_ms() is not None
    assert follower.fetch_offset() is None
    follower.clock.now += FetchPlanSettings().backoff_ms
    assert follower.fetch_offset() is None
    follower.wait(0.6)
    assert follower.fetch_offset() == 1


def test_a_partition_that_is_followed_anew_waits_as_well(follower):
    """Another epoch, or another leader, may come while the truncation is on its way to the disk."""
    follower.cut()
    assert follower.fetch_offset() is None
    follower.apply(LEADER, 2)
    follower.plan.add(follower.partition)
    assert follower.fetch_offset() is None
    follower.wait(0.6)
    assert follower.fetch_offset() == 1


def test_a_failed_log_takes_no_waiter(follower):
    """Whoever asks after the failure is told at once."""
    follower.cut()
    follower.log.fail(StorageError("failed"))
    assert follower.fetch_offset() is None
    assert len(follower.plan) == 0
