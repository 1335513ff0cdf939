"""How the rate of throttled replicas is measured, and whom it holds back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from barnabas.config.topic import LogConfig
from barnabas.replication.replication_quota import ReplicationQuota
from tests.log.harness import StoppedClock


def partition(index, *throttled):
    config = LogConfig(leader_replication_throttled_replicas=throttled)
    return SimpleNamespace(index=index, is_open=True, log=SimpleNamespace(config=config))


def quota(rate, clock):
    return ReplicationQuota(
        1,
        throttled=lambda config: config.leader_replication_throttled_replicas,
        rate_max=lambda: rate,
        windows=3,
        window_ms=1000.0,
        clock=clock,
    )


@pytest.mark.parametrize(
    ("index", "throttled", "is_throttled"),
    [(0, (), False), (0, ("*",), True), (0, ("0:1", "1:2"), True), (1, ("0:1", "1:2"), False)],
)
def test_who_is_throttled(index, throttled, is_throttled):
    """All, or the partitions that are named together with this broker."""
    assert quota(1, StoppedClock()).is_throttled(partition(index, *throttled)) is is_throttled


def test_the_rate_is_that_of_the_last_windows():
    """Bytes count for as many windows as are kept, and only those of throttled replicas."""
    clock = StoppedClock()
    limited = quota(100, clock)
    mine, other = partition(0, "0:1"), partition(0)
    limited.record(other, 10_000)
    assert limited.rate() == 0
    limited.record(mine, 90)
    assert limited.rate() == 90
    assert not limited.is_exceeded(mine)
    limited.record(mine, 20)
    assert limited.is_exceeded(mine)
    assert not limited.is_exceeded(other)
    clock.now += 2_000
    assert limited.rate() == 55
    clock.now += 1_000
    assert limited.rate() == 0
