"""Static members keep their place over a restart (KIP-345, KIP-814)."""

import pytest

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, stable_group


@pytest.fixture
def members(coordinator):
    """A leader and a follower, both static, in a stable group."""
    a = Client(coordinator, "a", instance="i-a")
    b = Client(coordinator, "b", instance="i-b")
    stable_group(coordinator, a, b)
    return a, b


def restarted(client, **fields):
    """The same instance in a new process."""
    return Client(client.coordinator, client.name, instance=client.instance, version=client.version, **fields)


def test_static_members_need_no_second_request(coordinator):
    """They are known by their instance id already."""
    client = Client(coordinator, "a", instance="i-a")
    assert client.send_join().error is ErrorCode.NONE
    assert coordinator.group().static_members == {"i-a": "i-a-1"}


def test_a_follower_comes_back_without_a_rebalance(coordinator, members):
    """It gets the same generation and assignment under a new id."""
    a, b = members
    again = restarted(b)
    again.join()
    assert again.joined.generation_id == a.generation
    assert again.joined.member_id != b.member_id
    assert again.joined.leader == a.member_id
    assert again.joined.members == []
    assert not again.joined.skip_assignment
    assert again.sync().response.assignment == b"b"
    assert a.heartbeat() is ErrorCode.NONE


def test_the_former_process_is_fenced(coordinator, members):
    """Whoever held the instance id before is told so, whatever it asks."""
    _, b = members
    restarted(b).join()
    assert b.heartbeat() is ErrorCode.FENCED_INSTANCE_ID
    assert b.sync().error is ErrorCode.FENCED_INSTANCE_ID
    assert b.commit() is ErrorCode.FENCED_INSTANCE_ID
    assert b.send_join().error is ErrorCode.FENCED_INSTANCE_ID


def test_a_leader_that_comes_back_skips_the_assignment(coordinator, members):
    """From version 9 on it is told that it leads, and not to assign anew (KIP-814)."""
    a, _ = members
    again = restarted(a)
    again.join()
    assert again.joined.leader == again.member_id
    assert again.joined.skip_assignment
    assert len(again.joined.members) == 2
    assert again.sync().response.assignment == b"a"


def test_an_older_leader_is_told_that_it_is_none(coordinator, members):
    """Before version 9 the answer names the old id as the leader, so that nobody assigns."""
    a, _ = members
    a.version = 8
    again = restarted(a)
    again.join()
    assert again.joined.leader == a.member_id
    assert again.joined.members == []
    assert not again.joined.skip_assignment
    assert coordinator.group().leader_id == again.member_id


def test_the_new_id_is_told_once_it_is_committed(coordinator, members):
    """Otherwise a failover could leave the member with an id that nobody knows."""
    _, b = members
    coordinator.hold_commits = True
    again = restarted(b)
    again.join()
    assert again.joined is None
    coordinator.commit()
    assert again.joined.error_code == ErrorCode.NONE
    assert again.member_id in coordinator.replayed().group().members


def test_an_id_that_is_not_written_is_taken_back(coordinator, members):
    """The former process may go on."""
    a, b = members
    coordinator.fail_appends_with = ErrorCode.COORDINATOR_NOT_AVAILABLE
    again = restarted(b)
    again.join()
    assert again.joined.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert again.joined.member_id == ""
    assert b.heartbeat() is ErrorCode.NONE
    assert a.heartbeat() is ErrorCode.NONE


def test_other_protocols_do_rebalance(coordinator, members):
    """If the vote would go another way, everyone joins again."""
    a, b = members
    for client in (a, b):
        client.protocols = (("range", b"r"), ("sticky", b"s"))
    a.join()
    b.join()
    assert a.joined.protocol_name == "range"
    a.sync([(a, b"a"), (b, b"b")])
    b.sync()
    again = restarted(b, protocols=(("sticky", b"s"),))
    again.join()
    assert again.joined is None
    assert coordinator.state() == "PreparingRebalance"
    a.join()
    assert a.joined.protocol_name == "sticky"
    assert again.joined.generation_id == a.joined.generation_id


def test_coming_back_while_the_assignment_is_awaited_rebalances(coordinator):
    """The leader may be assigning to the old id just now."""
    a = Client(coordinator, "a", instance="i-a")
    b = Client(coordinator, "b", instance="i-b")
    a.join()
    b.join()
    a.join()
    waiting = b.sync()
    again = restarted(b)
    again.join()
    assert waiting.error is ErrorCode.FENCED_INSTANCE_ID
    assert coordinator.state() == "PreparingRebalance"
    a.join()
    assert again.joined.generation_id == a.joined.generation_id == 3


def test_coming_back_while_members_join_takes_the_place(coordinator, members):
    """The old process's parked JoinGroup is fenced, the new one counts as joined."""
    a, b = members
    a.join()
    b.protocols = (("range", b"changed"),)
    assert a.joined is None
    first = restarted(a)
    first.join()
    assert a.joined.error_code == ErrorCode.FENCED_INSTANCE_ID
    assert first.joined is None
    b.join()
    assert first.joined.generation_id == b.joined.generation_id == 3
    assert first.joined.leader == first.member_id


def test_coming_back_before_the_first_sync_is_no_reason_to_rebalance(coordinator):
    """Who is waited for to sync is known under the new id; nobody is removed for the old one."""
    a = Client(coordinator, "a", instance="i-a", session_timeout_ms=300_000, rebalance_timeout_ms=20_000)
    b = Client(coordinator, "b", instance="i-b", session_timeout_ms=300_000, rebalance_timeout_ms=20_000)
    a.join()
    b.join()
    a.join()
    a.sync([(a, b"a"), (b, b"b")])
    again = restarted(b, session_timeout_ms=300_000)
    again.join()
    assert again.sync().response.assignment == b"b"
    coordinator.advance(100_000)
    assert a.heartbeat() is again.heartbeat() is ErrorCode.NONE


def test_a_rebalance_that_overtakes_the_write_answers_the_member(coordinator, members):
    """The member that came back is part of the next generation and waits for that."""
    a, b = members
    coordinator.hold_commits = True
    again = restarted(b)
    again.join()
    newcomer = Client(coordinator, "c")
    newcomer.join()
    coordinator.commit()
    assert again.joined is None
    a.join()
    assert {client.joined.generation_id for client in (a, again, newcomer)} == {3}


def test_static_members_that_stay_away_go_after_their_session(coordinator, members):
    """Then their partitions are given to others."""
    a, b = members
    coordinator.advance(9_000)
    assert a.heartbeat() is ErrorCode.NONE
    coordinator.advance(1_000)
    assert a.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert "i-b" not in coordinator.group().static_members
    assert b.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_static_and_dynamic_members_share_a_group(coordinator):
    """An instance id with a member id that is not its own is fenced; an unknown one is unknown."""
    a = Client(coordinator, "a", instance="i-a")
    b = Client(coordinator, "b")
    stable_group(coordinator, a, b)
    assert b.heartbeat(instance="i-a") is ErrorCode.FENCED_INSTANCE_ID
    assert b.heartbeat(instance="i-z") is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_pending_member_is_no_static_member(coordinator):
    """An id that was given to a dynamic member can not be used with an instance id."""
    a = Client(coordinator, "a")
    member_id = a.send_join().response.member_id
    static = Client(coordinator, "a", instance="i-a")
    assert static.send_join(member_id=member_id).error is ErrorCode.UNKNOWN_SERVER_ERROR
