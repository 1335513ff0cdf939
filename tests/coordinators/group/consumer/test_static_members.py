"""Static members keep their partitions over a restart."""

import pytest

from barnabas.errors import ErrorCode
from tests.coordinators.group.consumer.conversation import Cluster, Member, settle, snapshot


@pytest.fixture
def cluster():
    cluster = Cluster()
    cluster.topic("t", 4)
    return cluster


def test_a_member_that_goes_for_a_while_comes_back_to_its_partitions(cluster):
    """Under a new id, without a rebalance: nobody else notices."""
    first, second = Member(cluster, "a", instance="i1"), Member(cluster, "b")
    first.join()
    second.join()
    settle(first, second)
    had, epoch = first.partitions(), cluster.group().group_epoch
    assert first.leave(-2).member_epoch == -2
    settle(second)
    assert cluster.group().group_epoch == epoch
    again = Member(cluster, "a2", instance="i1")
    answer = again.join()
    assert answer.member_epoch == epoch
    assert again.partitions() == had
    assert cluster.group().group_epoch == epoch
    assert list(cluster.group().static_members.values()) == ["a2"]
    assert first.beat() is ErrorCode.FENCED_INSTANCE_ID


def test_a_second_process_waits_until_the_first_has_gone(cluster):
    """UNRELEASED_INSTANCE_ID while the instance id is in use."""
    first = Member(cluster, "a", instance="i1")
    first.join()
    second = Member(cluster, "b", instance="i1")
    before = snapshot(cluster.group())
    assert second.join() is ErrorCode.UNRELEASED_INSTANCE_ID
    assert snapshot(cluster.group()) == before
    first.leave(-2)
    assert not isinstance(second.join(), ErrorCode)


def test_a_member_that_does_not_come_back_loses_its_partitions(cluster):
    """After the session timeout."""
    first, second = Member(cluster, "a", instance="i1"), Member(cluster, "b")
    first.join()
    second.join()
    settle(first, second)
    first.leave(-2)
    for _ in range(5):
        cluster.coordinator.advance(9_200)
        second.beat()
    settle(second)
    assert len(second.partitions()) == 4


def test_a_member_may_leave_for_good(cluster):
    """Epoch -1 is the end for static members, too."""
    first, second = Member(cluster, "a", instance="i1"), Member(cluster, "b")
    first.join()
    second.join()
    settle(first, second)
    first.leave(-1)
    settle(second)
    assert len(second.partitions()) == 4
    assert cluster.group().static_members == {}


def test_changed_wishes_of_who_comes_back_count(cluster):
    """Other topics than before are a rebalance, from the partitions that were kept."""
    other = cluster.topic("other", 2)
    first = Member(cluster, "a", instance="i1")
    first.join()
    first.leave(-2)
    again = Member(cluster, "a2", ["other"], instance="i1")
    again.join()
    settle(again)
    assert again.owned == {other: {0, 1}}


@pytest.mark.parametrize("epoch", [0, 3, -1, -2])
def test_strangers_are_told_so(cluster, epoch):
    first = Member(cluster, "a", instance="i1")
    first.join()
    answer = cluster.beat(member_id="b", instance_id="i2", member_epoch=epoch) if epoch else None
    assert answer in (None, ErrorCode.UNKNOWN_MEMBER_ID)
    answer = cluster.beat(member_id="b", instance_id="i1", member_epoch=epoch) if epoch else None
    assert answer in (None, ErrorCode.FENCED_INSTANCE_ID)
