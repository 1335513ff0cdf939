"""Members that subscribe to patterns of topics."""

from barnabas.errors import ErrorCode
from tests.coordinators.group.consumer.conversation import Cluster, Member, settle


def topics_of(cluster, member):
    return {cluster.topics.name_of(topic_id) for topic_id in member.owned}


def test_a_pattern_is_matched_in_the_background():
    """The first answer has nothing yet; the next one has what the pattern matches."""
    cluster = Cluster()
    cluster.topic("orders-eu", 1)
    cluster.topic("orders-us", 2)
    cluster.topic("other", 3)
    cluster.coordinator.hold_background = True
    member = Member(cluster, "a", [], regex="orders-.*")
    member.join()
    assert member.owned == {}
    assert cluster.group().is_resolving
    assert member.beat().assignment is None
    assert len(cluster.coordinator.background) == 1, "once at a time"
    cluster.coordinator.work()
    member.beat()
    assert topics_of(cluster, member) == {"orders-eu", "orders-us"}


def test_new_topics_are_found_and_deleted_ones_forgotten():
    """No sooner than ten seconds after the last look."""
    cluster = Cluster()
    cluster.topic("t1", 1)
    member = Member(cluster, "a", [], regex="t.*")
    member.join()
    settle(member)
    cluster.topic("t2", 1)
    settle(member)
    assert topics_of(cluster, member) == {"t1"}
    cluster.coordinator.advance(10_001)
    member.beat()
    settle(member)
    assert topics_of(cluster, member) == {"t1", "t2"}
    cluster.delete("t1")
    settle(member)
    assert topics_of(cluster, member) == {"t2"}


def test_names_and_patterns_add_up():
    """In a member, and in a group."""
    cluster = Cluster()
    cluster.topic("orders", 1)
    cluster.topic("payments", 1)
    first = Member(cluster, "a", ["payments"], regex="ord.*")
    first.join()
    settle(first)
    assert topics_of(cluster, first) == {"orders", "payments"}
    second = Member(cluster, "b", ["orders"])
    second.join()
    settle(first, second)
    assert (topics_of(cluster, first), topics_of(cluster, second)) == ({"payments"}, {"orders"})


def test_a_pattern_that_is_not_matched_yet_takes_nothing_from_others():
    """Not even when a target is due as its member comes: everyone keeps what they subscribe to."""
    cluster = Cluster()
    cluster.topic("orders", 4)
    reader = Member(cluster, "b", [], regex="ord.*", assignor="range")
    reader.join()
    settle(reader)
    other = Member(cluster, "c", [], regex="ord.*", assignor="range")
    other.join()
    settle(reader, other)
    other.leave()
    assert cluster.group().group_epoch > cluster.group().assignment_epoch
    cluster.coordinator.hold_background = True
    newcomer = Member(cluster, "a", [], regex="pay.*", assignor="range")
    newcomer.join()
    settle(reader)
    assert topics_of(cluster, reader) == {"orders"}
    assert len(reader.partitions()) == 4
    assert newcomer.owned == {}


def test_a_pattern_goes_with_its_last_member():
    cluster = Cluster()
    cluster.topic("t", 2)
    first, second = (Member(cluster, name, [], regex="t.*") for name in "ab")
    first.join()
    second.join()
    settle(first, second)
    assert list(cluster.group().expressions) == ["t.*"]
    first.leave()
    assert list(cluster.group().expressions) == ["t.*"]
    second.beat(subscribed_topic_regex="")
    assert cluster.group().expressions == {}
    settle(second)
    assert second.owned == {}


def test_what_is_no_pattern_is_refused():
    """With the reason; the group does not come to be."""
    cluster = Cluster()
    assert Member(cluster, "a", [], regex="(").join() is ErrorCode.INVALID_REGULAR_EXPRESSION
    assert cluster.group() is None


def test_a_group_that_is_gone_when_its_pattern_is_matched_stays_gone():
    cluster = Cluster()
    cluster.topic("t", 1)
    cluster.coordinator.hold_background = True
    member = Member(cluster, "a", [], regex="t.*")
    member.join()
    member.leave()
    cluster.coordinator.run(cluster.coordinator.shard.delete_groups(["orders"]))
    assert cluster.group() is None
    cluster.coordinator.work()
    assert cluster.group() is None
