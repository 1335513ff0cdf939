"""When a follower counts as caught up."""

from __future__ import annotations

from barnabas.replication.follower_progress import FollowerProgress


class _Session:
    last_fetch_ms = 0.0


def fetch(progress, offset, *, end, at, epoch=1):
    progress.fetched(offset, 0, epoch, leader_end_offset=end, now_ms=at)


def test_a_follower_that_is_always_a_little_behind_is_in_sync():
    """It counts as caught up at the time of a fetch by the next one, if that has all that there was then."""
    progress = FollowerProgress(2, float("-inf"))
    fetch(progress, 0, end=10, at=1_000)
    assert not progress.is_caught_up(10, 1_000, 500)
    fetch(progress, 10, end=20, at=1_100)
    assert progress.last_caught_up_ms == 1_000
    fetch(progress, 20, end=30, at=1_200)
    assert progress.last_caught_up_ms == 1_100
    assert progress.is_caught_up(30, 1_600, 500)
    assert not progress.is_caught_up(30, 1_601, 500)


def test_one_that_does_not_keep_up_is_not():
    """Fetching alone is not enough."""
    progress = FollowerProgress(2, float("-inf"))
    for number in range(10):
        fetch(progress, number, end=100 + 10 * number, at=1_000.0 + 100 * number)
    assert not progress.is_caught_up(190, 2_000, 500)


def test_a_quiet_partition_does_not_age():
    """While nothing is appended a session need not name the partition, and the follower was caught up all that time."""
    progress = FollowerProgress(2, float("-inf"))
    session = progress.reader = _Session()
    fetch(progress, 10, end=10, at=1_000)
    assert progress.is_caught_up(10, 99_000, 500)
    session.last_fetch_ms = 98_900.0
    progress.left_behind()
    assert progress.is_caught_up(11, 99_000, 500)
    assert not progress.is_caught_up(11, 99_500, 500)


def test_who_may_join():
    """Only the process that the controller knows, alive."""
    progress = FollowerProgress(2, 0.0)
    assert not progress.is_eligible({2: 5}.get)
    fetch(progress, 10, end=10, at=0, epoch=4)
    assert not progress.is_eligible({2: 5}.get)
    fetch(progress, 10, end=10, at=0, epoch=5)
    assert progress.is_eligible({2: 5}.get)
    assert not progress.is_eligible({}.get)
