"""Members go one by one from one assignment to the next."""

import pytest

from barnabas.coordinators.group.consumer.state import ConsumerGroupState, MemberState
from barnabas.errors import ErrorCode
from tests.coordinators.group.consumer.conversation import Cluster, Member, settings, settle


@pytest.fixture
def cluster():
    cluster = Cluster()
    cluster.topic("t", 6)
    return cluster


def state(cluster, member):
    return cluster.group().members[member.id].state


def test_the_first_member_gets_everything_at_once(cluster):
    """One heartbeat, epoch 2, as in Kafka; the group is stable."""
    member = Member(cluster, "a")
    answer = member.join()
    assert (answer.member_id, answer.member_epoch, answer.heartbeat_interval_ms) == ("a", 2, 5_000)
    assert len(member.partitions()) == 6
    assert cluster.group().state is ConsumerGroupState.STABLE


def test_a_partition_is_revoked_before_it_is_assigned(cluster):
    """The newcomer waits for what the other has, and gets each partition when it was given up."""
    first, second = Member(cluster, "a"), Member(cluster, "b")
    first.join()
    second.join()
    assert second.partitions() == set()
    assert state(cluster, second) is MemberState.UNRELEASED_PARTITIONS
    assert first.beat().member_epoch == 2, "it stays in its epoch until it has given up three"
    assert len(first.partitions()) == 3
    assert state(cluster, first) is MemberState.UNREVOKED_PARTITIONS
    assert second.beat().assignment is None, "nobody said yet that the partitions are free"
    assert first.beat().member_epoch == 3
    second.beat()
    assert len(second.partitions()) == 3
    settle(first, second)
    assert cluster.group().state is ConsumerGroupState.STABLE


def test_a_heartbeat_that_does_not_tell_what_is_owned_does_not_revoke(cluster):
    """A member says what it owns when that has changed; until then its partitions are its own."""
    first, second = Member(cluster, "a"), Member(cluster, "b")
    first.join()
    second.join()
    first.beat()
    first.is_dirty = False
    assert first.beat().member_epoch == 2
    assert state(cluster, first) is MemberState.UNREVOKED_PARTITIONS


def test_who_keeps_a_partition_never_stops(cluster):
    """Of six partitions three move, and those that stay are never taken away."""
    first, second = Member(cluster, "a"), Member(cluster, "b")
    first.join()
    second.join()
    settle(first, second)
    assert first.stops == 3
    third = Member(cluster, "c")
    third.join()
    settle(first, second, third)
    assert first.stops + second.stops == 3 + 2
    third.leave()
    settle(first, second)
    assert first.stops + second.stops == 3 + 2, "what is added disturbs nobody"


def test_the_target_waits_for_its_interval():
    """Members that come within a second of the last assignment are given their partitions together."""
    cluster = Cluster(consumer=settings(interval_ms=1_000))
    cluster.topic("t", 6)
    members = [Member(cluster, name) for name in "abc"]
    for member in members:
        member.join()
    assert cluster.group().state is ConsumerGroupState.ASSIGNING
    assert cluster.group().assignment_epoch == 2
    cluster.coordinator.advance(1_000)
    settle(*members)
    assert [len(member.partitions()) for member in members] == [2, 2, 2]
    assert cluster.group().assignment_epoch == cluster.group().group_epoch == 4


def test_a_topic_that_is_no_longer_wanted_is_given_up_at_once(cluster):
    """Even before a new target is computed."""
    other = cluster.topic("other", 2)
    member = Member(cluster, "a", ["t", "other"])
    member.join()
    answer = member.subscribe("t")
    assert other not in member.owned
    assert answer.assignment is not None
    settle(member)
    assert len(member.partitions()) == 6


def test_more_partitions_and_deleted_topics_are_noticed(cluster):
    """With the next heartbeat after the change."""
    member = Member(cluster, "a", ["t", "later"])
    member.join()
    cluster.topic("t", 8)
    member.beat()
    assert len(member.partitions()) == 8
    cluster.topic("later", 2)
    member.beat()
    assert len(member.partitions()) == 10
    cluster.delete("t")
    settle(member)
    assert len(member.partitions()) == 2


def test_a_lost_answer_does_no_harm(cluster):
    """The member comes back with the epoch before, owning no more than it may, and is told again."""
    first, second = Member(cluster, "a"), Member(cluster, "b")
    first.join()
    second.join()
    first.beat()
    epoch, owned = first.epoch, dict(first.owned)
    first.beat()
    assert first.epoch == epoch + 1
    first.epoch, first.owned, first.is_dirty = epoch, owned, True
    assert first.beat().member_epoch == epoch + 1


def test_foreign_epochs_are_fenced(cluster):
    """Newer than known, or older without an answer that may have been lost."""
    first = Member(cluster, "a")
    first.join()
    first.epoch = 9
    assert first.beat() is ErrorCode.FENCED_MEMBER_EPOCH
    first.epoch = 1
    assert first.beat() is ErrorCode.FENCED_MEMBER_EPOCH
    assert not isinstance(first.join(), ErrorCode), "a fenced member joins anew under its id"
    assert len(first.partitions()) == 6


def test_a_member_that_does_not_give_up_its_partitions_is_removed(cluster):
    """After the rebalance timeout that it asked for; the others get what it had."""
    first, second = Member(cluster, "a", timeout_ms=10_000), Member(cluster, "b")
    first.join()
    second.join()
    first.beat()
    for _ in range(9):
        cluster.coordinator.advance(1_000)
        first.is_dirty = False
        assert not isinstance(first.beat(), ErrorCode)
        second.beat()
    cluster.coordinator.advance(1_100)
    assert first.beat() is ErrorCode.UNKNOWN_MEMBER_ID
    settle(second)
    assert len(second.partitions()) == 6


def test_a_silent_member_is_removed(cluster):
    """After the session timeout."""
    first, second = Member(cluster, "a"), Member(cluster, "b")
    first.join()
    second.join()
    for _ in range(5):
        cluster.coordinator.advance(9_100)
        second.beat()
    assert list(cluster.group().members) == ["b"]
    settle(second)
    assert len(second.partitions()) == 6


def test_sessions_begin_anew_with_a_new_coordinator(cluster):
    """Whoever was there before the failover has a whole session to say so."""
    member = Member(cluster, "a")
    member.join()
    cluster.coordinator.advance(40_000)
    cluster.fail_over()
    cluster.coordinator.advance(40_000)
    assert not isinstance(member.beat(), ErrorCode)
    cluster.coordinator.advance(46_000)
    assert member.beat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_in_an_unknown_state_begins_anew(cluster):
    """A later version wrote a state that this one does not know."""
    member = Member(cluster, "a")
    member.join()
    group = cluster.group()
    group.put(group.members["a"]._replace(state=MemberState.of(77)))
    assert member.beat() is ErrorCode.FENCED_MEMBER_EPOCH
    assert not isinstance(member.join(), ErrorCode)
    assert state(cluster, member) is MemberState.STABLE
    assert len(member.partitions()) == 6


def pair_that_waits(**pace):
    """A member that has everything, and one that has just joined; the present target is new."""
    cluster = Cluster(consumer=settings(interval_ms=1_000, waiting_heartbeat_interval_ms=500, **pace))
    cluster.topic("t", 6)
    first, second = Member(cluster, "a"), Member(cluster, "b")
    assert first.join().heartbeat_interval_ms == 5_000
    return cluster, first, second


def test_who_waits_for_a_target_comes_back_when_it_is_due():
    """And not before half a second: members that come later do not have to wait for the earlier ones."""
    cluster, first, second = pair_that_waits()
    assert second.join().heartbeat_interval_ms == 501
    cluster.coordinator.advance(600)
    assert second.beat().heartbeat_interval_ms == 410
    assert first.beat().heartbeat_interval_ms == 410


def test_who_waits_for_partitions_comes_back_after_their_owner():
    """Once that has been told, after as long again as it has taken so far: it may have to finish what it does."""
    cluster, first, second = pair_that_waits()
    cluster.coordinator.advance(1_000)
    assert second.join().heartbeat_interval_ms == 501, "the owner is due in four seconds"
    cluster.coordinator.advance(3_900)
    assert second.beat().heartbeat_interval_ms == 110
    cluster.coordinator.advance(100)
    first.beat()  # it hears that it is to give some up, and does so in its next heartbeat
    assert second.beat().heartbeat_interval_ms == 50
    cluster.coordinator.advance(200)
    assert second.beat().heartbeat_interval_ms == 200
    cluster.coordinator.advance(2_000)
    assert second.beat().heartbeat_interval_ms == 502
    first.beat()
    assert first.beat().heartbeat_interval_ms == 5_000
    assert second.beat().heartbeat_interval_ms == 5_000


def test_who_has_some_partitions_already_comes_back_after_the_owner_of_the_others():
    """That of the first ones has given up, and is not asked for any more."""
    cluster = Cluster(consumer=settings(waiting_heartbeat_interval_ms=500))
    cluster.topic("t", 6)
    first, second, third = (Member(cluster, name) for name in "abc")
    first.join()
    second.join()
    first.beat()
    first.beat()
    second.beat()
    assert (len(first.partitions()), len(second.partitions())) == (3, 3)
    third.join()
    first.beat()
    first.beat()
    cluster.coordinator.advance(4_800)
    answer = third.beat()
    assert len(third.partitions()) == 1
    assert answer.heartbeat_interval_ms == 210
    second.beat()
    second.beat()
    assert third.beat().heartbeat_interval_ms == 5_000
    assert len(third.partitions()) == 2


def test_a_large_group_is_in_less_of_a_hurry():
    """A millisecond for each member, and a quarter of one for the shortest time."""
    cluster, _, _ = pair_that_waits()
    others = [Member(cluster, f"member-{number}") for number in range(40)]
    intervals = [other.join().heartbeat_interval_ms for other in others]
    assert intervals == [501 + number for number in range(40)]
    cluster.coordinator.advance(990)
    assert others[-1].beat().heartbeat_interval_ms == 60
