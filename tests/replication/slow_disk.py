"""A replica on a disk that takes half a second for each sync, and whose power may fail."""

from __future__ import annotations

import asyncio
import random

from barnabas.config.topic import LogConfig
from barnabas.log.group_commit import GroupCommit
from barnabas.log.partition_log import PartitionLog
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.records.batch import iterate_headers, set_base_offset_and_epoch
from barnabas.replication.fetch_plan import FetchPlan, FetchPlanSettings
from barnabas.replication.partition import Partition
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

    def __init__(self, directory, *, segment_bytes=1 << 20, durability="fsync-when-alone"):
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
            durability=durability,
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

    def request(self):
        """The next request, None if there is nothing to ask."""
        return self.plan.request(self.clock.monotonic_ms())

    def fetch_offset(self):
        """From where the next request fetches; None if it leaves the partition out."""
        request = self.request()
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
