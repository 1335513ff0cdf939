"""Waiting for members to rejoin, and going on without those who do not."""

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, Coordinator, stable_group


def test_members_that_do_not_rejoin_in_time_are_removed(coordinator):
    """The rebalance timeout is the longest that any member allows."""
    a = Client(coordinator, "a", rebalance_timeout_ms=5_000, session_timeout_ms=100_000)
    b = Client(coordinator, "b", rebalance_timeout_ms=8_000, session_timeout_ms=100_000)
    stable_group(coordinator, a, b)
    b.join()
    b.protocols = (("range", b"changed"),)
    b.join()
    coordinator.advance(7_999)
    assert b.joined is None
    coordinator.advance(1)
    assert b.joined.generation_id == 3
    assert b.joined.leader == b.member_id
    assert a.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_heartbeats_keep_a_member_alive_during_a_rebalance(coordinator):
    """A member that is still processing may heartbeat until the rebalance timeout."""
    a = Client(coordinator, "a", session_timeout_ms=6_000, rebalance_timeout_ms=30_000)
    b = Client(coordinator, "b", session_timeout_ms=6_000, rebalance_timeout_ms=30_000)
    stable_group(coordinator, a)
    b.join()
    for _ in range(9):
        coordinator.advance(3_000)
        assert a.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    a.join()
    assert a.joined.generation_id == 2
    assert b.joined.generation_id == 2


def test_a_dead_member_ends_the_wait_for_it(coordinator):
    """Its session ends before the rebalance timeout."""
    a = Client(coordinator, "a", session_timeout_ms=6_000, rebalance_timeout_ms=300_000)
    b = Client(coordinator, "b", rebalance_timeout_ms=300_000)
    stable_group(coordinator, a)
    b.join()
    coordinator.advance(6_000)
    assert b.joined.generation_id == 2


def test_static_members_are_waited_for_until_their_session_ends(coordinator):
    """A rebalance does not remove static members that have not rejoined: they may be restarting (KIP-345)."""
    a = Client(coordinator, "a", instance="i-a", session_timeout_ms=100_000, rebalance_timeout_ms=5_000)
    b = Client(coordinator, "b", instance="i-b", session_timeout_ms=100_000, rebalance_timeout_ms=5_000)
    stable_group(coordinator, a, b)
    b.protocols = (("range", b"changed"),)
    b.join()
    coordinator.advance(5_000)
    assert b.joined.generation_id == 3
    assert b.joined.leader == b.member_id
    assert {m.group_instance_id for m in b.joined.members} == {"i-a", "i-b"}


def test_a_rebalance_without_any_member_waits_for_the_sessions_to_end(coordinator):
    """With static members alone, none of whom rejoins, there is no leader to go on with."""
    a = Client(coordinator, "a", instance="i-a", session_timeout_ms=20_000, rebalance_timeout_ms=5_000)
    b = Client(coordinator, "b", session_timeout_ms=20_000, rebalance_timeout_ms=5_000)
    stable_group(coordinator, a, b)
    b.leave()
    coordinator.advance(5_000)
    assert coordinator.state() == "PreparingRebalance"
    coordinator.advance(15_000)
    assert coordinator.state() == "Empty"


def test_an_empty_group_can_wait_for_more_members():
    """`group.initial.rebalance.delay.ms`, lengthened while members keep joining, up to the rebalance timeout (KIP-134)."""
    coordinator = Coordinator(group_initial_rebalance_delay_ms=3_000)
    a, b, c = (Client(coordinator, name, rebalance_timeout_ms=7_000) for name in "abc")
    a.join()
    coordinator.advance(2_000)
    b.join()
    coordinator.advance(1_000)
    assert a.joined is None
    coordinator.advance(2_000)
    c.join()
    coordinator.advance(1_000)
    assert a.joined is None
    coordinator.advance(1_000)
    assert a.joined is not None
    assert len(a.joined.members) == 3
    assert {client.joined.generation_id for client in (a, b, c)} == {1}


def test_the_initial_wait_is_short_if_nobody_else_joins():
    """One delay, no more."""
    coordinator = Coordinator(group_initial_rebalance_delay_ms=3_000)
    a = Client(coordinator, "a")
    a.join()
    coordinator.advance(2_999)
    assert a.joined is None
    coordinator.advance(1)
    assert a.joined.generation_id == 1


def test_an_empty_group_is_written_down_with_its_generation(coordinator):
    """So that a later member does not meet an old generation."""
    a = Client(coordinator, "a")
    stable_group(coordinator, a)
    a.leave()
    assert coordinator.state() == "Empty"
    assert coordinator.replayed().group().generation_id == 2
    a.member_id = ""
    a.join()
    assert a.joined.generation_id == 3


def test_a_leader_that_goes_is_replaced(coordinator):
    """Another member that joined leads the next generation."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a, b)
    a.leave()
    b.join()
    assert b.joined.leader == b.member_id
    assert len(b.joined.members) == 1


def test_new_members_wait_for_a_limited_time():
    """A client that has gone with its JoinGroup parked does not stay in the group for ever."""
    coordinator = Coordinator(group_new_member_join_timeout_ms=300_000)
    a = Client(coordinator, "a", session_timeout_ms=10_000_000, rebalance_timeout_ms=10_000_000)
    b = Client(coordinator, "b", rebalance_timeout_ms=10_000_000)
    stable_group(coordinator, a)
    b.join()
    coordinator.advance(299_999)
    assert b.joined is None
    coordinator.advance(1)
    assert b.joined.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert coordinator.state() == "PreparingRebalance"
    a.join()
    assert a.joined.generation_id == 2
