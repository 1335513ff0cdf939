"""Members go."""

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, leave, stable_group


def test_a_member_that_leaves_makes_the_others_rebalance(coordinator):
    """At once, without waiting for its session to end."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a, b)
    assert b.leave("shut down") is ErrorCode.NONE
    assert a.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert b.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    a.join()
    assert len(a.joined.members) == 1


def test_the_last_member_leaves_an_empty_group(coordinator):
    """It stays known, with its next generation."""
    a = Client(coordinator, "a")
    stable_group(coordinator, a)
    assert a.leave() is ErrorCode.NONE
    assert coordinator.state() == "Empty"
    assert coordinator.group().generation_id == 2
    assert coordinator.group().leader_id is None


def test_several_members_leave_with_one_rebalance(coordinator):
    """Version 3 and later name many (KIP-345); each gets its own error."""
    a, b, c = (Client(coordinator, name) for name in "abc")
    stable_group(coordinator, a, b, c)
    errors = leave(
        coordinator, (b.member_id, None, None), ("ghost", None, None), (c.member_id, None, "scaled down")
    )
    assert errors == [ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE]
    a.join()
    assert a.joined.generation_id == 4
    assert len(a.joined.members) == 1


def test_an_administrator_removes_static_members_by_instance_id(coordinator):
    """The member id may be empty then."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b", instance="i-b")
    stable_group(coordinator, a, b)
    assert leave(coordinator, ("", "i-b", None), ("", "i-x", None), ("", None, None)) == [
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]
    assert a.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_fenced_static_member_can_not_leave(coordinator):
    """Its instance id belongs to another process by now."""
    a = Client(coordinator, "a", instance="i-a")
    stable_group(coordinator, a)
    old = a.member_id
    Client(coordinator, "a", instance="i-a").join()
    assert leave(coordinator, (old, "i-a", None)) == [ErrorCode.FENCED_INSTANCE_ID]


def test_an_unknown_group_knows_no_members(coordinator):
    """Each member is unknown, and the request as a whole is not an error."""
    assert leave(coordinator, ("x", None, None), ("", "i", None)) == [ErrorCode.UNKNOWN_MEMBER_ID] * 2


def test_who_only_has_an_id_may_give_it_back(coordinator):
    """And a rebalance does not wait for it any longer."""
    a, b, c = (Client(coordinator, name) for name in "abc")
    stable_group(coordinator, a)
    pending_id = c.send_join().response.member_id
    b.join()
    a.join()
    assert a.joined is None
    assert leave(coordinator, (pending_id, None, None)) == [ErrorCode.NONE]
    assert a.joined.generation_id == 2


def test_leaving_while_joining_ends_the_wait(coordinator):
    """The parked JoinGroup is answered, and the rebalance goes on without the member."""
    a, b, c = (Client(coordinator, name) for name in "abc")
    stable_group(coordinator, a, b)
    c.join()
    a.join()
    b.join()
    c.protocols = (("range", b"other"),)
    waiting = c.join()
    a.join()
    assert leave(coordinator, (c.member_id, None, None)) == [ErrorCode.NONE]
    assert waiting.error is ErrorCode.UNKNOWN_MEMBER_ID
    b.join()
    assert a.joined.error_code == b.joined.error_code == 0
    assert a.joined.generation_id == b.joined.generation_id


def test_leaving_while_syncing_ends_the_wait(coordinator):
    """The parked SyncGroup of the member that goes is answered too."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    a.join()
    b.join()
    a.join()
    waiting = b.sync()
    assert leave(coordinator, (b.member_id, None, None)) == [ErrorCode.NONE]
    assert waiting.error is ErrorCode.UNKNOWN_MEMBER_ID
