"""Who may commit and fetch the offsets of a consumer group."""

import pytest

from barnabas.coordinators.group.consumer.settings import ConsumerSettings
from barnabas.errors import ErrorCode
from tests.coordinators.group.consumer.conversation import Cluster, Member, settings, settle
from tests.coordinators.group.conversation import commit, fetched

TOPIC_ID = (1).to_bytes(16)


@pytest.fixture
def cluster():
    cluster = Cluster()
    assert cluster.topic("t", 4) == TOPIC_ID
    return cluster


def commits(cluster, member, epoch=None, *, partition=0, version=9):
    return commit(
        cluster.coordinator,
        partition=partition,
        version=version,
        topic_id=TOPIC_ID,
        member_id=member.id,
        generation_id_or_member_epoch=member.epoch if epoch is None else epoch,
    )


def test_a_member_commits_in_its_epoch(cluster):
    member = Member(cluster, "a")
    member.join()
    assert commits(cluster, member) is ErrorCode.NONE
    assert commits(cluster, member, member.epoch + 1) is ErrorCode.STALE_MEMBER_EPOCH
    assert commits(cluster, Member(cluster, "b"), member.epoch) is ErrorCode.UNKNOWN_MEMBER_ID
    assert commits(cluster, member, version=8) is ErrorCode.UNSUPPORTED_VERSION
    assert fetched(cluster.coordinator) == {("t", 0): 1}


def test_a_commit_on_its_way_is_good_for_partitions_that_were_kept(cluster):
    """It was sent in the epoch before; for what came later it is not."""
    first, second = Member(cluster, "a"), Member(cluster, "b")
    first.join()
    second.join()
    epoch = first.epoch
    settle(first, second)
    kept = min(index for _, index in first.partitions())
    gone = min(index for _, index in second.partitions())
    assert first.epoch > epoch
    assert commits(cluster, first, epoch, partition=kept) is ErrorCode.NONE
    assert commits(cluster, first, epoch, partition=gone) is ErrorCode.STALE_MEMBER_EPOCH
    assert commits(cluster, second, epoch, partition=gone) is ErrorCode.STALE_MEMBER_EPOCH


def test_a_stranger_commits_only_when_nobody_is_there(cluster):
    member = Member(cluster, "a")
    member.join()
    assert commit(cluster.coordinator, topic_id=TOPIC_ID) is ErrorCode.UNKNOWN_MEMBER_ID
    member.leave()
    assert commit(cluster.coordinator, topic_id=TOPIC_ID) is ErrorCode.NONE


def test_offsets_of_a_live_group_stay(cluster):
    """Those of topics that it reads, however old; others expire, and at last the group."""
    cluster = Cluster(
        consumer=settings(), offsets_retention_ms=1_000, offsets_retention_check_interval_ms=500
    )
    cluster.topic("t", 1)
    cluster.topic("u", 1)
    member = Member(cluster, "a", ["t"])
    member.join()
    for topic, number in (("t", 1), ("u", 2)):
        assert (
            commit(
                cluster.coordinator,
                topic=topic,
                topic_id=number.to_bytes(16),
                member_id="a",
                generation_id_or_member_epoch=member.epoch,
            )
            is ErrorCode.NONE
        )
    cluster.coordinator.advance(2_000)
    assert fetched(cluster.coordinator) == {("t", 0): 1}
    member.leave()
    assert cluster.group() is not None
    cluster.coordinator.advance(2_000)
    assert fetched(cluster.coordinator) == {}
    assert cluster.group() is None


def test_an_empty_group_is_deleted_with_all_that_it_has(cluster):
    member = Member(cluster, "a", regex="t.*")
    member.join()
    settle(member)
    commits(cluster, member)
    (result,) = cluster.coordinator.run(cluster.coordinator.shard.delete_groups(["orders"]))
    assert result.error_code == ErrorCode.NON_EMPTY_GROUP
    member.leave()
    (result,) = cluster.coordinator.run(cluster.coordinator.shard.delete_groups(["orders"]))
    assert result.error_code == ErrorCode.NONE
    assert cluster.group() is None
    latest = dict(cluster.coordinator.log)
    assert all(value is None for value in latest.values()), "nothing is left in a compacted log"


def test_a_full_group_takes_nobody(cluster):
    cluster = Cluster(consumer=ConsumerSettings(max_size=1))
    cluster.topic("t", 1)
    member = Member(cluster, "a")
    member.join()
    assert Member(cluster, "b").join() is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert not isinstance(member.beat(), ErrorCode)
