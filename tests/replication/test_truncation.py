"""What a follower has dropped does not come back when the power fails, among what it took in its place."""

from __future__ import annotations

import random

import pytest

from barnabas.errors import DiskFullError, StorageError
from barnabas.replication.fetch_plan import FetchPlanSettings
from barnabas.replication.partition import ACKS_ALL
from tests.log.harness import batch
from tests.replication.slow_disk import FOLLOWER, LEADER, TOPIC_ID, Follower, stored


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
